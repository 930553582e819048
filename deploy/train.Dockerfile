# Training: the recipes with torch for the processor. Runs and caches live in a volume.
#
#   docker build --file deploy/train.Dockerfile --tag hybrid-train .
#   docker run --volume "$PWD:/work" --user "$(id -u)" hybrid-train new reviews --data reviews.csv --text text --label label
#
# For NVIDIA GPUs leave TORCH_INDEX empty: --build-arg TORCH_INDEX=
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG EXTRAS=all
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY hybrid hybrid
COPY serving serving
COPY recipes recipes
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==${TORCH}"
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"
RUN useradd --uid 10001 --create-home hybrid && mkdir /work && chown hybrid /work
ENV PYTHONUNBUFFERED=1 HOME=/work
USER 10001
WORKDIR /work
ENTRYPOINT ["hybrid"]
CMD ["--help"]
