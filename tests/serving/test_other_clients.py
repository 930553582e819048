"""Clients of other projects get their answers by the base URL alone, in their own default settings."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from openai import NotFoundError, OpenAI

import hybrid
from hybrid.types import Prediction
from serving.protocols.oip_binary import JSON_LENGTH_HEADER, read_texts, write_texts
from serving.service import ClassifierService
from serving.settings import Settings
from tests.serving.http_requests import client
from tests.serving.live_service import NullObserver
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

TEXTS = ["The soup was awful and stale.", "Wunderbares Brot — 👩‍🍳", "x"]
INFER = "/v2/models/dishes/infer"


@pytest.fixture(scope="module")
def url(bundle_dir: Path) -> Iterator[str]:
    settings = Settings()
    with served(ClassifierService(bundle_dir, settings, NullObserver()), settings) as url:
        yield url


@pytest.fixture(scope="module")
def expected(bundle_dir: Path) -> list[Prediction]:
    return hybrid.load(bundle_dir).classify(TEXTS)


def binary_request(
    texts: list[str], *, outputs: list[Any] | None = None, tail: bytes | None = None, **tensor: Any
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that tritonclient sends, which are without a Content-Type."""
    data = write_texts(texts) if tail is None else tail
    text = {
        "name": "text",
        "shape": [len(texts), 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    request: dict[str, Any] = {"inputs": [text | tensor]}
    if outputs is None:
        request["parameters"] = {"binary_data_output": True}
    else:
        request["outputs"] = outputs
    head = json.dumps(request).encode()
    return head + data, {JSON_LENGTH_HEADER: str(len(head))}


def post(url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return client().post(url + INFER, content=body, headers=headers)


def binary_reply(reply: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of a reply, and the bytes of each of its outputs."""
    length = int(reply.headers[JSON_LENGTH_HEADER])
    head, tail = json.loads(reply.content[:length]), reply.content[length:]
    data = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        data[output["name"]], tail = tail[:size], tail[size:]
    assert tail == b""
    return head, data


def test_binary_tensors_are_read_and_written_as_the_extension_says(url: str, expected: list[Prediction]) -> None:
    reply = post(url, *binary_request(TEXTS))
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/octet-stream")
    head, data = binary_reply(reply)
    assert [output["name"] for output in head["outputs"]] == ["label", "probabilities", "confidence", "status"]
    assert all("data" not in output for output in head["outputs"])
    assert read_texts(data["label"], "label") == [prediction.label for prediction in expected]
    probs = np.frombuffer(data["probabilities"], "<f8").reshape(head["outputs"][1]["shape"])
    np.testing.assert_allclose(probs, [list(prediction.probs.values()) for prediction in expected], atol=1e-5)
    assert struct.unpack("<3d", data["confidence"]) == pytest.approx([p.confidence for p in expected], abs=1e-5)


def test_each_output_may_say_how_it_is_sent(url: str) -> None:
    outputs = [
        {"name": "label", "parameters": {"binary_data": False}},
        {"name": "status", "parameters": {"binary_data": True}},
    ]
    head, data = binary_reply(post(url, *binary_request(TEXTS, outputs=outputs)))
    assert len(head["outputs"][0]["data"]) == 3
    assert len(read_texts(data["status"], "status")) == 3
    plain = [{"name": "label"}]
    reply = post(url, *binary_request(TEXTS, outputs=plain))
    assert reply.headers["Content-Type"] == "application/json"
    assert JSON_LENGTH_HEADER not in reply.headers


def replaced(body: bytes, headers: dict[str, str], length: str) -> tuple[bytes, dict[str, str]]:
    return body, headers | {JSON_LENGTH_HEADER: length}


ONE = write_texts(["soup"])
MALFORMED: dict[str, tuple[tuple[bytes, dict[str, str]], str]] = {
    "no header": ((binary_request(TEXTS)[0], {}), "the body"),
    "a length that is none": (replaced(*binary_request(TEXTS), "soup"), "expected how many of the"),
    "a negative length": (replaced(*binary_request(TEXTS), "-1"), "expected how many of the"),
    "a length beyond the body": (replaced(*binary_request(TEXTS), "99999"), "expected how many of the"),
    "an endless length": (replaced(*binary_request(TEXTS), "9" * 20), "expected how many of the"),
    "a length in other digits": (replaced(*binary_request(TEXTS), "²"), "expected how many"),
    "a length of 0": (replaced(*binary_request(TEXTS), "0"), "the body"),
    "a value cut off": (binary_request(["soup"], tail=ONE[:-1]), "value 0 is cut off"),
    "a length cut off": (binary_request(["soup"], tail=ONE + b"\1\0"), "value 1 is cut off"),
    "a value beyond all": (binary_request(["soup"], tail=b"\xff\xff\xff\xffsoup"), "value 0 is cut off"),
    "not UTF-8": (binary_request(["soup"], tail=b"\2\0\0\0\xff\xfe"), "value 0 is not UTF-8"),
    "another size": (
        binary_request(["soup"], parameters={"binary_data_size": 3}),
        "got 3, and 8 bytes follow the JSON",
    ),
    "no size": (
        binary_request(["soup"], parameters={}),
        "8 bytes follow the JSON, and inputs[0] has no binary_data_size",
    ),
    "data too": (binary_request(["soup"], data=["soup"]), "got data and binary_data_size"),
    "another shape": (binary_request(["soup"], shape=[2]), "got [2] for 1 values"),
    "another type": (binary_request(["soup"], datatype="FP32"), "expected BYTES"),
    "shared memory": (
        binary_request(["soup"], parameters={"shared_memory_region": "r", "binary_data_size": 8}),
        "shared_memory_region: not supported",
    ),
    "an output in shared memory": (
        binary_request(["soup"], outputs=[{"name": "label", "parameters": {"shared_memory_region": "r"}}]),
        "shared_memory_region: not supported",
    ),
    "classes": (
        binary_request(["soup"], outputs=[{"name": "label", "parameters": {"classification": 3}}]),
        "ask for the output `probabilities`",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_binary_body_that_is_none_is_refused_with_what_is_expected(url: str, name: str) -> None:
    (body, headers), message = MALFORMED[name]
    sent = {header: value.encode() for header, value in headers.items()}
    octets = sent | {"Content-Type": b"application/octet-stream"}
    reply = client().post(url + INFER, content=body, headers=octets)  # type: ignore[arg-type] # bytes beyond ASCII
    if name == "no header":
        assert reply.status_code == 415
        reply = post(url, body, headers)
    assert reply.status_code == 400, reply.text
    assert message in reply.json()["error"]


def test_the_limits_hold_for_binary_texts_too(url: str) -> None:
    assert post(url, *binary_request(["soup"] * 257)).status_code == 413
    assert post(url, *binary_request(["soup", " "])).status_code == 422
    assert post(url, *binary_request([], shape=[0])).status_code == 400
    assert post(url, *binary_request(["x" * (1 << 20)])).status_code == 413


def test_what_a_client_of_the_protocol_asks_at_its_start_is_there(url: str) -> None:
    assert "binary_tensor_data" in client().get(f"{url}/v2").json()["extensions"]
    config = client().get(f"{url}/v2/models/dishes/config").json()
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("dishes", 0, "onnxruntime")
    assert config["input"] == [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert {"name": "probabilities", "data_type": "TYPE_FP64", "dims": [-1, 3]} in config["output"]
    [entry] = client().post(f"{url}/v2/repository/index").json()
    assert (entry["name"], entry["state"]) == ("dishes", "READY")
    assert client().get(f"{url}/v2/models/dishes/versions/{entry['version']}/config").json() == config
    assert client().get(f"{url}/v2/models/soup/config").status_code == 404


def test_tritonclient_in_its_default_settings(url: str, expected: list[Prediction]) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    server = triton.InferenceServerClient(url.removeprefix("http://"))
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("dishes")
    assert server.get_server_metadata()["name"] == "hybrid"
    metadata = server.get_model_metadata("dishes")
    assert server.get_model_config("dishes")["name"] == "dishes"
    assert server.get_model_repository_index()[0]["state"] == "READY"
    assert server.is_model_ready("dishes", metadata["versions"][0])
    values = np.array(TEXTS, dtype=object).reshape(-1, 1)
    for binary in (True, False):
        texts = triton.InferInput("text", [3, 1], "BYTES")
        texts.set_data_from_numpy(values, binary_data=binary)
        for outputs in (
            None,
            [triton.InferRequestedOutput(n, binary_data=b) for n, b in (("label", True), ("probabilities", False))],
        ):
            for compression in (None, "gzip"):
                reply = server.infer("dishes", [texts], outputs=outputs, request_compression_algorithm=compression)
                labels = [value.decode() if isinstance(value, bytes) else value for value in reply.as_numpy("label")]
                assert labels == [prediction.label for prediction in expected]
                probs = reply.as_numpy("probabilities")
                np.testing.assert_allclose(probs, [list(p.probs.values()) for p in expected], atol=1e-5)
    with pytest.raises(triton.InferenceServerException, match="model: got 'soup'"):
        server.infer("soup", [texts])
    server.close()


def test_the_inference_client_of_hugging_face_by_the_base_url(url: str, expected: list[Prediction]) -> None:
    for base in (url, f"{url}/"):
        scores = InferenceClient(base, token="none").text_classification(TEXTS[0])
        assert [(score.label, score.score) for score in scores] == [
            (label, pytest.approx(prob, abs=1e-5))
            for label, prob in sorted(expected[0].probs.items(), key=lambda pair: -pair[1])
        ]
    best = InferenceClient(url, token="none").text_classification(TEXTS[0], top_k=1, function_to_apply="softmax")
    assert [score.label for score in best] == [expected[0].label]
    with pytest.raises(HfHubHTTPError, match="calibrated probabilities only"):
        InferenceClient(url, token="none").text_classification(TEXTS[0], function_to_apply="none")


def test_a_list_at_the_root_is_several_texts(url: str, expected: list[Prediction]) -> None:
    reply = client().post(f"{url}/", json={"inputs": TEXTS, "options": {"wait_for_model": True}})
    assert [scores[0]["label"] for scores in reply.json()] == [prediction.label for prediction in expected]
    assert client().post(f"{url}/", json={"inputs": []}).status_code == 400
    assert client().post(f"{url}/", json={"inputs": " "}).json()["error_type"] == "Validation"


def test_the_page_stays_at_the_root(bundle_dir: Path) -> None:
    from serving.page import files

    with served(Scripted(bundle_dir, at_once), extra_routes=files.routes()) as url:
        assert client().get(url).headers["Content-Type"].startswith("text/html")
        assert client().post(url, json={"inputs": "soup"}).json()[0][0]["label"] == "good"


def test_openai_lists_and_retrieves_the_model(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as ours:
        [listed] = ours.models.list().data
        assert ours.models.retrieve("dishes") == listed
        assert listed.id == "dishes"
        with pytest.raises(NotFoundError, match="got 'soup', expected 'dishes'"):
            ours.models.retrieve("soup")
