"""The language model against the GPT, against attention written out, and its parts."""

import pytest
import torch

from lib.minimise import minimise
from lib.models.gpt import GPT
from lib.models.language_model import COMPONENTS, LanguageModel, component_of, next_token_loss

SIZES = dict(n_tokens=7, n_positions=8, width=12, n_layers=2, n_heads=3)


def tokens(*shape):
    return torch.randint(7, shape, generator=torch.Generator().manual_seed(0))


def roughened(model):
    "At GPT-2's scale the blocks hardly act, and any error in them would hide."
    with torch.no_grad():
        for w in model.weights.values():
            w.add_(0.3 * torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel())))
    return model


def test_it_equals_the_gpt_on_one_hot_tokens():
    model = roughened(LanguageModel(**SIZES, seeds=[0, 1]))
    gpt = GPT(n_in=7, n_out=7, n_positions=8, width=12, n_layers=2, n_heads=3, seeds=[0, 1])
    renamed = {"embedding": "read_in_W", "positions": "position", "unembedding": "read_out_W"}
    with torch.no_grad():
        for name, w in model.weights.items():
            for old, new in (("attention_qkv", "qkv"), ("attention_out", "attention"), ("mlp_", "")):
                name = name.replace(old, new)
            gpt.weights[renamed.get(name, name)].copy_(w.mT if name == "embedding" else w)
    xs = tokens(5, 6)
    one_hot = torch.nn.functional.one_hot(xs, 7).float()
    assert torch.allclose(model(xs), gpt(one_hot), atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "relative", "none"])
@pytest.mark.parametrize("mlp", [True, False])
def test_its_attention_maps_reproduce_what_a_block_writes(positions, mlp):
    model = roughened(LanguageModel(**SIZES, seeds=[3], mlp=mlp, positions=positions))
    xs = tokens(4, 6)
    before, after = model.hidden(xs)[:2]
    w = {name: value.detach()[0] for name, value in model.weights.items()}
    (weight, *_) = model.attention_maps(xs)
    assert torch.allclose(weight.sum(-1), torch.ones(1, 4, 3, 6), atol=1e-5)
    assert (weight.triu(1) == 0).all()
    normed = torch.nn.functional.layer_norm(before[0], (12,), w["0_norm1_W"], w["0_norm1_b"])
    q, k, v = (normed @ w["0_attention_qkv_W"].T + w["0_attention_qkv_b"]).chunk(3, -1)
    written = []
    for head in range(3):
        mine = slice(4 * head, 4 * head + 4)
        scores = q[..., mine] @ k[..., mine].mT / 2.0
        if positions == "relative":
            for t in range(6):
                for s in range(t + 1):
                    scores[:, t, s] += w["0_positions"][head, t - s]
        attended = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
        assert torch.allclose(weight[0, :, head], attended, atol=1e-5)
        written.append(attended @ v[..., mine])
    h = before[0] + torch.cat(written, -1) @ w["0_attention_out_W"].T + w["0_attention_out_b"]
    if mlp:
        up = torch.nn.functional.layer_norm(h, (12,), w["0_norm2_W"], w["0_norm2_b"]) @ w["0_mlp_up_W"].T
        h = h + torch.nn.functional.gelu(up + w["0_mlp_up_b"]) @ w["0_mlp_down_W"].T + w["0_mlp_down_b"]
    assert torch.allclose(after[0], h, atol=1e-5)


def test_a_position_never_sees_what_comes_after_it():
    for positions in ("learned", "relative"):
        model, xs = roughened(LanguageModel(**SIZES, seeds=[0], positions=positions)), tokens(4, 6)
        changed = xs.clone()
        changed[:, 4:] = (changed[:, 4:] + 1) % 7
        assert torch.allclose(model(xs)[..., :4, :], model(changed)[..., :4, :], atol=1e-6)


def test_a_stacked_member_equals_the_solo_model_in_outputs_and_gradients():
    xs = tokens(2, 4, 6)
    both, solo = LanguageModel(**SIZES, seeds=[0, 5]).copies(3), LanguageModel(**SIZES, seeds=[5])
    out, alone = both(xs), solo(xs[1:])
    assert out.shape == (3, 2, 4, 6, 7)
    assert torch.allclose(out[2, 1], alone[0], atol=1e-5)
    out.square().sum().backward()
    alone.square().sum().backward()
    for name, w in solo.weights.items():
        assert torch.allclose(both.weights[name].grad[2, 1], w.grad[0], atol=1e-5), name


def test_the_embedding_of_a_tied_model_reads_and_writes():
    model = LanguageModel(**SIZES, seeds=[0], tied=True)
    h = model.hidden(tokens(4, 6))[-1]
    w = {name: value.detach() for name, value in model.weights.items()}
    assert "unembedding" not in w
    expected = torch.nn.functional.layer_norm(h, (12,)) @ w["embedding"][0].T
    assert torch.allclose(model(tokens(4, 6)), expected, atol=1e-5)


def test_every_weight_belongs_to_one_component_and_takes_part():
    for options in (dict(), dict(mlp=False, positions="relative"), dict(positions="none", tied=True)):
        model = roughened(LanguageModel(**SIZES, seeds=[0], **options))
        next_token_loss(model(tokens(4, 8)), tokens(4, 8)).sum().backward()
        assert all(w.grad.abs().sum() > 0 for w in model.parameters())
        parts = model.components()
        assert set(parts) <= set(COMPONENTS)
        assert sum(len(part) for part in parts.values()) == len(list(model.parameters()))
    assert [component_of(name) for name in ("0_norm1_W", "unembedding", "embedding", "1_positions")] == [
        "norms", "unembedding", "embedding", "positions"
    ]  # fmt: skip


def test_a_component_that_the_optimizer_does_not_get_stays_and_the_rest_moves():
    model = LanguageModel(**SIZES, seeds=[0, 1])
    parts = model.components()
    frozen = [w.detach().clone() for w in parts["attention"]]
    moving = [w for name, part in parts.items() if name != "attention" for w in part]
    start = [w.detach().clone() for w in moving]
    minimise(lambda step: next_token_loss(model(tokens(4, 6)), tokens(4, 6)).mean((-2, -1)), moving, 3, lr=0.01)
    assert all(torch.equal(w, was) for w, was in zip(model.components()["attention"], frozen, strict=True))
    assert all(not torch.equal(w, was) for w, was in zip(moving, start, strict=True))


def test_a_model_that_takes_every_component_becomes_its_donor():
    model, donor = LanguageModel(**SIZES, seeds=[0]), roughened(LanguageModel(**SIZES, seeds=[1]))
    xs = tokens(4, 6)
    model.take(donor, ["embedding", "mlp"])
    assert not torch.allclose(model(xs), donor(xs), atol=1e-2)
    model.take(donor, list(model.components()))
    assert torch.equal(model(xs), donor(xs))


def test_the_loss_of_a_uniform_prediction_is_the_entropy_of_a_uniform_token():
    loss = next_token_loss(torch.zeros(2, 3, 5, 7), tokens(3, 5))
    assert loss.shape == (2, 3, 4)
    assert torch.allclose(loss, torch.tensor(7.0).log())


def test_the_loss_reads_the_token_that_follows():
    logits = torch.full((1, 1, 3, 4), -100.0)
    logits[0, 0, 0, 2], logits[0, 0, 1, 1] = 100.0, 100.0
    assert next_token_loss(logits, torch.tensor([[0, 2, 1]])).sum() == 0


def test_larger_starts_scale_each_part_by_its_factor():
    plain, scaled = (LanguageModel(**SIZES, seeds=[0]) for _ in range(2))
    scaled.scale_start(weights=2.0, embedding=3.0, position=5.0)
    ratio = {name: (scaled.weights[name] / w).nanmean().item() for name, w in plain.weights.items()}
    assert ratio["embedding"] == pytest.approx(3) and ratio["positions"] == pytest.approx(5)
    assert ratio["0_mlp_up_W"] == pytest.approx(2) and ratio["unembedding"] == pytest.approx(2)
    assert ratio["norm_W"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(n_tokens=0), "n_tokens is 0; it must be at least 1"),
        (dict(n_heads=5), "n_heads is 5; it must divide the width 12"),
        (dict(positions="rotary"), "positions is 'rotary'; it must be one of learned, relative, none"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(**SIZES | changed, seeds=[0])


def test_what_does_not_fit_the_model_is_refused():
    model = LanguageModel(**SIZES, seeds=[0])
    with pytest.raises(ValueError, match="the sequence has 9 tokens; the model has n_positions = 8"):
        model(tokens(1, 9))
    with pytest.raises(ValueError, match="tokens reach from 0 to 7; they must lie in 0…6"):
        model(torch.tensor([[0, 7]]))
    with pytest.raises(ValueError, match="there is no component 'head'; the model has embedding, positions"):
        model.take(model, ["head"])
    with pytest.raises(ValueError, match="n_copies is 0; it must be at least 1"):
        model.copies(0)
    with pytest.raises(ValueError, match=r"all must be positive"):
        model.scale_start(weights=0.0, embedding=1.0, position=1.0)
