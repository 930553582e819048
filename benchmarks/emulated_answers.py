"""Answers texts with a bundle, inside an emulated processor: prints one JSON object, or the sentence of a refusal.

`python emulated_answers.py BUNDLE TEXTS`: TEXTS is a JSON list. It needs the runtime's packages alone.
"""

import json
import sys
import time
from pathlib import Path

import hybrid
from hybrid.machine.processor import processor


def main() -> None:
    bundle, texts = sys.argv[1:]
    about = {"features": processor().features, "precision": "", "labels": [], "refusal": ""}
    try:
        classifier = hybrid.load(bundle)
        predictions = classifier.classify(json.loads(Path(texts).read_text()))
        about |= {"precision": classifier.bundle.precision, "labels": [p.label for p in predictions]}
    except hybrid.BundleError as error:
        about["refusal"] = str(error)
    print(json.dumps(about | {"processor_s": time.process_time()}))


if __name__ == "__main__":
    main()
