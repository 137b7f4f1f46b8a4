"""The stacked one-layer transformer against the formula written out, and its variants."""

import pytest
import torch

from lib.models.filter_and_store import FilterAndStore


def model(**changed):
    return FilterAndStore(**dict(n_tokens=7, n_outputs=5, width=6, seeds=[3, 4], n_settings=2, start=0.5) | changed)


def tokens_for(shape, seed=0):
    return torch.randint(7, shape, generator=torch.Generator().manual_seed(seed))


def shaken(net):
    """Biases and filter off zero, so that a term left out would show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in (net.filter, net.bias_in, net.bias_out):
            p.copy_(torch.randn(p.shape, generator=generator))
    return net


def test_logits_are_those_of_the_formula():
    net, xs = shaken(model()), tokens_for((2, 2, 3, 4))
    logits = net(xs)
    for i, j, n, t in ((0, 0, 0, 0), (1, 1, 2, 3), (0, 1, 1, 2)):
        x = xs[i, j, n, : t + 1]
        weights = net.filter[i, j, x[-1], x].softmax(0)
        hidden = (weights @ net.store_in[i, j, x] + net.bias_in[i, j]).relu()
        assert torch.allclose(logits[i, j, n, t], net.store_out[i, j] @ hidden + net.bias_out[i, j], atol=1e-6)
        assert torch.allclose(net.attention(xs)[i, j, n, t, : t + 1], weights, atol=1e-6)
    assert torch.allclose(net(xs, last=True)[..., 0, :], logits[..., -1, :], atol=1e-6)


def test_settings_start_alike_and_a_member_does_not_depend_on_its_neighbours():
    net, alone = model(), model(seeds=[4], n_settings=1)
    assert torch.equal(net.store_in[0], net.store_in[1])
    assert torch.equal(alone.store_in[0, 0], net.store_in[1, 1])
    xs = tokens_for((2, 2, 3, 4))
    assert torch.allclose(alone(xs[:1, 1:])[0, 0], net(xs)[0, 1], atol=1e-6)


def test_an_untrained_filter_is_uniform_and_causal():
    weights = model().attention(tokens_for((2, 2, 3, 4)))
    assert torch.allclose(weights[..., 2, :], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


def test_attention_alone_is_linear_in_what_it_mixes():
    net = shaken(model(linear=True))
    subject, template = torch.tensor([0]), torch.tensor([1])
    with torch.no_grad():
        net.filter.zero_()
        single = [net(t.expand(2, 2, 1, 1))[..., 0, :] for t in (subject, template)]
        pair = net(torch.cat([subject, template]).expand(2, 2, 1, 2), last=True)[..., 0, :]
    assert torch.allclose(pair, (single[0] + single[1]) / 2, atol=1e-6)


def test_copies_are_independent():
    net = model()
    wide = net.copies(3)
    xs = tokens_for((3, 2, 2, 4, 4))
    assert torch.allclose(wide(xs)[1], net(xs[1]), atol=1e-6)
    with torch.no_grad():
        wide.store_in[0].zero_()
    assert not torch.equal(wide.store_in[0], wide.store_in[1])
    assert torch.equal(wide.store_in[1], net.store_in)


def test_an_adapter_starts_at_zero_and_changes_the_first_layer_by_its_rank():
    net, xs = model(), tokens_for((2, 2, 3, 4))
    before = net(xs)
    left, right = net.add_adapter(2, seeds=[3, 4])
    assert torch.equal(net(xs), before)
    with torch.no_grad():
        left.copy_(torch.randn(left.shape, generator=torch.Generator().manual_seed(2)))
        merged = model()
        merged.store_in.add_(left @ right)
    assert torch.allclose(net(xs), merged(xs), atol=1e-5)
    assert torch.linalg.matrix_rank((left @ right)[0, 0]) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [(dict(width=0), "width is 0; it must be at least 1"), (dict(start=0.0), "start is 0.0; it must be positive")],
)
def test_sizes_out_of_range_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        model(**changed)


@pytest.mark.parametrize("rank", [0, 7])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match="it must lie in 1…6"):
        model().add_adapter(rank, seeds=[3, 4])
