"""OpenVINO on an ONNX file, run by the interpreter of `peers.peer_python("openvino")`; the last line is JSON.

`openvino_peer.py MODEL SHAPES_JSON ROUNDS` prints for each shape the median milliseconds of each round, in bf16 with
two pinned threads.
"""

import json
import statistics
import sys
import time

THREADS = 2
SECONDS = 0.5


def main() -> None:
    if len(sys.argv) != 4:
        print("skipped: deberta_onnx.py calls this one")
        return
    import numpy as np
    import openvino

    model, shapes, rounds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": THREADS, "ENABLE_CPU_PINNING": True}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    times_ms = [[] for _ in shapes]
    for _ in range(rounds):
        for number, shape in enumerate(shapes):
            ids = np.random.default_rng(0).integers(5, 30_000, shape)
            times_ms[number].append(median_ms(compiled, {"input_ids": ids, "attention_mask": np.ones_like(ids)}))
    print(json.dumps(times_ms))


def median_ms(compiled: object, feed: dict) -> float:
    compiled(feed)
    times = []
    while len(times) < 3 or sum(times) < SECONDS:
        start = time.perf_counter()
        compiled(feed)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
