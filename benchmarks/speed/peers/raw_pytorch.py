"""PyTorch eager in a loop on one thread, one essay at a time, not padded."""

import torch

from benchmarks.speed.peers import loop, model_files, torch_model


def main() -> None:
    """Load, then answer on stdout."""
    torch.set_num_threads(1)
    model, encoder = torch_model.load(model_files.weights_folder()), model_files.encoder()

    @torch.inference_mode()
    def score(text: str, _: str, prompt_index: int) -> float:
        arrays = encoder.collate([encoder.encode(text, prompt_index)])
        return float(model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits)

    loop.serve(score)


if __name__ == "__main__":
    main()
