"""What a training of TIGER on a sequence data set is told."""

from dataclasses import dataclass, field

from genrec.trainers.config import TrainingConfig


@dataclass
class TIGERTrainingConfig(TrainingConfig):
    """Page 000's defaults.

    Attributes:
        vocab_size: tokens with padding; of semantic IDs 1 + code_length * code_num, which 1024 is not in general.
        max_seq_length: tokens of a history.
        max_generation_length: tokens to generate.
        pretrained_rqvae_path: the tokenizer's checkpoint.
        eval_generation: measure ranked items at each of `eval_k_values` at the end of `train_model`.
    """

    vocab_size: int = 1024
    embedding_dim: int = 512
    num_heads: int = 8
    num_layers: int = 6
    attn_dim: int = 2048
    dropout: float = 0.1
    max_seq_length: int = 100
    learning_rate: float = 1e-4
    batch_size: int = 16
    max_epochs: int = 50
    max_generation_length: int = 50
    generation_temperature: float = 1.0
    generation_top_k: int = 50
    generation_top_p: float = 0.9
    dataset_name: str = "p5_amazon"
    dataset_split: str = "beauty"
    pretrained_rqvae_path: str = "checkpoints/rqvae.ckpt"
    eval_generation: bool = True
    eval_k_values: list[int] = field(default_factory=lambda: [5, 10, 20])
