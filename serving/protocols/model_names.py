"""The names under which clients of other protocols ask for the bundle, and the list of them."""

import msgspec

from serving.errors import NotFoundError
from serving.protocols.operation import Call

ALIASES = ("jev-latest",)
"""What clients of /v1/systemone send where their user names no model."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of both lists: that of OpenAI's clients and that of System One's."""

    id: str
    object: str = "model"
    created: int = 0
    """A bundle does not say when it was made."""
    owned_by: str = "hybrid"
    name: str
    description: str
    release_date: str = ""


class ModelsReply(msgspec.Struct, frozen=True, kw_only=True):
    """What serves now, as OpenAI's clients read it (`data`) and as those of System One do (`models`)."""

    object: str = "list"
    data: list[Model]
    models: list[Model]


async def answer_models(call: Call) -> ModelsReply:
    """Return the one model that there is."""
    bundle = call.service.bundle
    about = f"{bundle.encoder}; labels: {', '.join(bundle.labels)}"
    models = [Model(id=bundle.name, name=bundle.name, description=about)]
    return ModelsReply(data=models, models=models)


def check_model(call: Call, name: str) -> None:
    """Raise where a request asks for a model that is not the bundle."""
    known = (call.service.bundle.name, call.service.bundle_id, *ALIASES)
    if name not in known:
        raise NotFoundError(f"model {name[:80]!r}; this server has {call.service.bundle.name!r} alone")
