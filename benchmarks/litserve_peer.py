"""The same graph behind LitServe, as its documentation has it; run by `peers.peer_python("litserve")`.

`litserve_peer.py FOLDER PORT BATCH THREADS WORKERS` with model.onnx and tokenizer.json in FOLDER. The tokenizer cuts long
texts itself. Idle threads do not spin: on few processors that is the better setting.
"""

import sys
from pathlib import Path

try:
    import litserve
    import numpy as np
except ImportError:
    print("skipped: serving.py calls this one, in an environment of its own")
    sys.exit()

BATCH_WAIT_S = 0.002


class Classifies(litserve.LitAPI):
    """At the top of the file, because LitServe pickles it for its workers."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe calls it by name
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(sys.argv[4])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = Path(sys.argv[1])
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.inputs = [graph_input.name for graph_input in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_padding()

    def decode_request(self, request: dict) -> str:
        return request["text"]

    def predict(self, inputs: str | list[str]) -> list:
        """Return the probabilities of one text, or of each text of a batch."""
        texts = [inputs] if isinstance(inputs, str) else inputs
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encoded])
        mask = np.array([encoding.attention_mask for encoding in encoded])
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        logits = self.session.run(None, {name: feed[name] for name in self.inputs})[0]
        shrunk = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs = (shrunk / shrunk.sum(axis=1, keepdims=True)).tolist()
        return probs[0] if isinstance(inputs, str) else probs

    def encode_response(self, probs: list) -> dict:
        return {"probs": probs}


def main() -> None:
    _, _, port, batch, _, workers = sys.argv
    batching = {} if batch == "1" else {"max_batch_size": int(batch), "batch_timeout": BATCH_WAIT_S}
    server = litserve.LitServer(Classifies(**batching), accelerator="cpu", workers_per_device=int(workers), timeout=60)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
