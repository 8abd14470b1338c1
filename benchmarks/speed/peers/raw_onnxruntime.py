"""The floor: ONNX Runtime fp32 in a loop on one thread, one essay at a time, nothing around it."""

import onnxruntime

from benchmarks.speed.peers import loop, model_files


def main() -> None:
    """Load, then answer on stdout."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model_files.fp32_graph()), options, providers=["CPUExecutionProvider"])
    encoder = model_files.encoder()

    def score(text: str, _: str, prompt_index: int) -> float:
        return model_files.run(session, encoder.collate([encoder.encode(text, prompt_index)]))[0]

    loop.serve(score)


if __name__ == "__main__":
    main()
