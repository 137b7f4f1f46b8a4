"""The encoder for pairs against torch's own encoder layer."""

import pytest
import torch

from lib.models.pair_encoder import MATRICES, PairEncoder
from lib.tasks.modular_arithmetic import split_pairs

P, WIDTH, HIDDEN, HEADS = 5, 8, 12, 2


def test_it_computes_what_torch_s_encoder_layer_computes_at_the_second_token():
    model = PairEncoder(P, WIDTH, HIDDEN, HEADS, seeds=[0, 1])
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):  # so that no bias or shift is zero by its start
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    pairs = split_pairs([0, 1], P, 0.6, "subtract").train
    logits = model(pairs)
    for member in range(2):
        W, b, norm = ({k: v[member].detach() for k, v in d.items()} for d in (model.weights, model.biases, model.norms))
        layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True)
        layer.self_attn.in_proj_weight.data, layer.self_attn.in_proj_bias.data = W["attention"], b["attention"][0]
        for module, name in (
            (layer.self_attn.out_proj, "output"),
            (layer.linear1, "up"),
            (layer.linear2, "down"),
        ):
            module.weight.data, module.bias.data = W[name], b[name][0]
        for i, module in enumerate((layer.norm1, layer.norm2), start=1):
            module.weight.data, module.bias.data = norm[f"scale {i}"][0], norm[f"shift {i}"][0]
        layer.train()
        tokens = torch.stack([pairs.a[member], pairs.b[member]], -1)
        expected = layer(W["embedding"][tokens])[:, -1] @ W["unembedding"].T + b["unembedding"]
        torch.testing.assert_close(logits[member], expected, rtol=1e-4, atol=1e-5)


def streams(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_dropout_keeps_the_mean_of_a_linear_layer_and_each_seed_has_its_own():
    pairs = split_pairs([0, 1], P, 0.6).train
    model = PairEncoder(P, WIDTH, HIDDEN, HEADS, seeds=[0, 1])
    one, again, other = (model(pairs, 0.3, streams(*s)) for s in ((5, 6), (5, 6), (5, 7)))
    assert torch.equal(one, again)
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1])
    with torch.no_grad():
        model.weights["down"].zero_(), model.weights["output"].zero_()
        model.biases["output"].zero_(), model.biases["down"].zero_()
        # Nothing that is dropped reaches the output any more, so only the residual is left.
        torch.testing.assert_close(model(pairs, 0.3, streams(5, 6)), model(pairs))


def test_a_share_of_dropout_outside_the_range_and_missing_generators_are_refused():
    pairs = split_pairs([0, 1], P, 0.6).train
    model = PairEncoder(P, WIDTH, HIDDEN, HEADS, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"dropout is 1.0; it must lie in \[0, 1\)"):
        model(pairs, 1.0)
    with pytest.raises(ValueError, match="generators has 1 entries; dropout needs one per seed, 2"):
        model(pairs, 0.1, streams(0))


def test_a_member_does_not_depend_on_its_neighbours():
    alone, beside = PairEncoder(P, WIDTH, HIDDEN, HEADS, [3]), PairEncoder(P, WIDTH, HIDDEN, HEADS, [1, 3])
    for one, two in zip(alone.parameters(), beside.parameters(), strict=True):
        assert torch.equal(one[0], two[1])


def test_all_parameters_are_matrices_and_the_named_ones_are_there():
    model = PairEncoder(P, WIDTH, HIDDEN, HEADS, [0])
    assert all(parameter.ndim == 3 for parameter in model.parameters())
    assert set(MATRICES) == set(model.weights)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        PairEncoder(P, WIDTH, 0, HEADS, [0])
    with pytest.raises(ValueError, match="n_heads is 3; it must divide the width 8"):
        PairEncoder(P, WIDTH, HIDDEN, 3, [0])
