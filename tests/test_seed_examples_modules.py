"""The examples of the modules' page, as it prints them.

Names that the page leaves open (`x`, `logits`, `model`) are set above each example.
"""

import pytest
import torch


def test_an_encoder_encodes_sequences(capsys):
    from genrec.modules import TransformerEncoder

    # 创建编码器
    encoder = TransformerEncoder(
        vocab_size=1000,
        embedding_dim=512,
        num_heads=8,
        num_layers=6,
        attn_dim=2048
    )  # fmt: skip

    # 编码序列
    input_ids = torch.randint(0, 1000, (32, 50))  # (batch_size, seq_len)
    attention_mask = torch.ones_like(input_ids)

    encoded = encoder(input_ids, attention_mask)
    print(f"Encoded shape: {encoded.shape}")  # (32, 50, 512)

    assert capsys.readouterr().out == "Encoded shape: torch.Size([32, 50, 512])\n"


def test_losses_are_computed():
    x, x_recon, commitment_loss, embedding_loss = (
        torch.zeros(4, 8),
        torch.ones(4, 8),
        torch.tensor(4.0),
        torch.tensor(2.0),
    )
    logits, labels = torch.zeros(2, 5, 1000), torch.randint(1, 1000, (2, 5))
    attention_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])

    from genrec.modules import SequenceLoss, VQVAELoss

    # VQVAE 损失
    vqvae_loss = VQVAELoss(commitment_cost=0.25)
    losses = vqvae_loss(x, x_recon, commitment_loss, embedding_loss)

    assert losses["total_loss"] == 1 + 0.25 * 4 + 2

    # 序列损失
    seq_loss = SequenceLoss(vocab_size=1000, label_smoothing=0.1)
    losses = seq_loss(logits, labels, attention_mask)

    assert losses["loss"].item() == pytest.approx(torch.tensor(1000.0).log().item())
    assert losses["accuracy"] == 0


def test_metrics_are_computed(capsys):
    from genrec.modules import RecommendationMetrics

    # 示例数据
    predictions = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    targets = [[1, 3, 5], [7, 9]]

    # 计算指标
    recall_5 = RecommendationMetrics.recall_at_k(predictions, targets, 5)
    ndcg_5 = RecommendationMetrics.ndcg_at_k(predictions, targets, 5)
    hit_rate = RecommendationMetrics.hit_rate_at_k(predictions, targets, 5)

    print(f"Recall@5: {recall_5:.4f}")
    print(f"NDCG@5: {ndcg_5:.4f}")
    print(f"Hit Rate@5: {hit_rate:.4f}")

    assert capsys.readouterr().out == "Recall@5: 1.0000\nNDCG@5: 0.7682\nHit Rate@5: 1.0000\n"


def test_a_model_is_counted_frozen_and_initialised(capsys):
    from genrec.modules import TransformerEncoder

    model = TransformerEncoder(vocab_size=1000, embedding_dim=64, num_heads=4, num_layers=2, attn_dim=128)

    from genrec.modules import ModelUtils

    # 模型信息
    param_count = ModelUtils.count_parameters(model)
    model_size = ModelUtils.get_model_size(model)

    print(f"Parameters: {param_count:,}")
    print(f"Model size: {model_size}")

    # a layer: four projections, two feed-forward layers, two norms
    layer = 4 * (64 * 64 + 64) + (64 * 128 + 128) + (128 * 64 + 64) + 2 * (64 + 64)
    numbers = 1000 * 64 + 2 * layer
    megabytes = 4 * (numbers + 1024 * 64) / 1024**2  # with the table of positions
    assert capsys.readouterr().out == f"Parameters: {numbers:,}\nModel size: {megabytes:.2f} MB\n"

    # 冻结/解冻层
    ModelUtils.freeze_layers(model, ['embedding', 'pos_encoding'])  # fmt: skip
    ModelUtils.unfreeze_layers(model, ['transformer'])  # fmt: skip

    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["embedding.weight"]

    # 权重初始化
    ModelUtils.initialize_weights(model, init_type='xavier')  # fmt: skip

    assert model.embedding.weight.abs().max() <= (6 / (1000 + 64)) ** 0.5
