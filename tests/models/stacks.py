"""Every model of `lib` small, with data of its kind: for the tests that hold for all of them."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import lib.models
from lib.models.cnn import CNN
from lib.models.filter_and_store import FilterAndStore
from lib.models.gpt import GPT
from lib.models.language_model import LanguageModel
from lib.models.linear import DeepLinear
from lib.models.linear_attention import LinearTransformer
from lib.models.linear_attention_variants import CopyingTransformer, FeatureRegressor, MLPTransformer
from lib.models.long_convolution import AttentionFree
from lib.models.mlp import MLP
from lib.models.node2vec import NodeModel
from lib.models.one_hidden_layer import OneHiddenLayer
from lib.models.pair_encoder import PairEncoder
from lib.models.recurrent import Recurrent
from lib.models.restricted_attention import RestrictedTransformer
from lib.models.softmax_attention import SoftmaxRegressor
from lib.models.square_network import SquareNetwork
from lib.models.uniform_mlp import UniformMLP
from lib.tasks.modular_arithmetic import split_pairs

Seeds = Sequence[int]


def stack_of(draw: Callable[[torch.Generator], Tensor], seeds: Seeds) -> Tensor:
    """One draw per seed, each from its own generator."""
    return torch.stack([draw(torch.Generator().manual_seed(1000 + seed)) for seed in seeds])


def normal(*shape: int) -> Callable[[Seeds], tuple[Tensor, ...]]:
    return lambda seeds: (stack_of(lambda g: torch.randn(shape, generator=g), seeds),)


def tokens(*shape: int) -> Callable[[Seeds], tuple[Tensor, ...]]:
    return lambda seeds: (stack_of(lambda g: torch.randint(5, shape, generator=g), seeds),)


def prompts(n_dims: int) -> Callable[[Seeds], tuple[Tensor, ...]]:
    return lambda seeds: normal(4, 6, n_dims)(seeds) + normal(4, 6)(seeds)


def pairs(seeds: Seeds) -> tuple:
    return (split_pairs(seeds, 5, 0.5).train,)


def nothing(seeds: Seeds) -> tuple:
    return ()


# name -> how to make it from seeds, its inputs from seeds (the stack first), a learning rate at which it learns steadily
STACKS: dict[str, tuple[Callable[[Seeds], nn.Module], Callable[[Seeds], tuple], float]] = {
    "CNN": (lambda s: CNN([1, 2, 3, 4], 3, s), normal(4, 1, 8, 8), 0.05),
    "FilterAndStore": (lambda s: FilterAndStore(5, 3, 4, s), lambda s: (tokens(4, 3)(s)[0][None],), 0.05),
    "GPT": (lambda s: GPT(3, 2, 6, 8, 1, 2, s), normal(4, 6, 3), 0.05),
    "LanguageModel": (lambda s: LanguageModel(5, 6, 8, 1, 2, s), tokens(4, 6), 0.05),
    "DeepLinear": (lambda s: DeepLinear([3, 4, 2], s, 0.5), normal(8, 3), 0.05),
    "LinearTransformer": (lambda s: LinearTransformer(3, 2, s, init_std=0.1), prompts(3), 0.01),
    "FeatureRegressor": (lambda s: FeatureRegressor(3, 4, s), prompts(1), 0.001),
    "CopyingTransformer": (lambda s: CopyingTransformer(2, 6, s), prompts(2), 0.01),
    "MLPTransformer": (lambda s: MLPTransformer(3, 2, 4, s), prompts(3), 0.01),
    "AttentionFree, convolution": (
        lambda s: AttentionFree("long convolution", 3, 2, 6, 8, 1, 2, s),
        normal(4, 6, 3),
        0.05,
    ),
    "AttentionFree, retention": (lambda s: AttentionFree("retention", 3, 2, 6, 8, 1, 2, s), normal(4, 6, 3), 0.05),
    "MLP": (lambda s: MLP([3, 8, 2], s), normal(8, 3), 0.05),
    "NodeModel": (lambda s: NodeModel(5, 3, s, 0.3, bilinear=True), nothing, 0.02),
    "OneHiddenLayer": (lambda s: OneHiddenLayer(3, 8, "rich", s), normal(8, 3), 0.1),
    "PairEncoder": (lambda s: PairEncoder(5, 8, 8, 2, s), pairs, 0.02),
    "Recurrent, LSTM": (lambda s: Recurrent("lstm", 3, 2, 4, 1, s), normal(4, 6, 3), 0.05),
    "Recurrent, GRU": (lambda s: Recurrent("gru", 3, 2, 4, 1, s), normal(4, 6, 3), 0.05),
    "RestrictedTransformer": (lambda s: RestrictedTransformer(3, 2, s, init_step=0.1), prompts(3), 0.001),
    "SoftmaxRegressor": (lambda s: SoftmaxRegressor(3, 2, s), prompts(3), 0.05),
    "SquareNetwork": (lambda s: SquareNetwork(5, 8, s), normal(8, 10), 0.02),
    "UniformMLP": (lambda s: UniformMLP([10, 8, 5], s, bias=True), pairs, 0.05),
}


def all_models() -> set[str]:
    """Names of the classes of `lib.models` that hold weights."""
    modules = [importlib.import_module(f"lib.models.{m.name}") for m in pkgutil.iter_modules(lib.models.__path__)]
    return {
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }


def axis_of(name: str) -> int:
    """Where the seeds are: this model has its settings first."""
    return 1 if name == "FilterAndStore" else 0


def train(name: str, seeds: Seeds, n_steps: int, device: str = "cpu") -> tuple[Tensor, list[Tensor]]:
    """Train a stack towards outputs drawn per seed; returns the losses of every step and the weights.

    The members' mean squared errors are summed, as everywhere in `lib`; plain SGD with momentum, so that a rounding error
    is not blown up by a division by the gradient's size.
    """
    make, inputs, lr = STACKS[name]
    model = make(seeds).to(device)
    data = [part.to(device) for part in inputs(seeds)]
    shape = model(*data).shape
    axis = axis_of(name)
    drawn = stack_of(lambda g: torch.rand(shape[axis + 1 :], generator=g), seeds)
    targets = (drawn[None] if axis else drawn).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    losses = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = (model(*data) - targets).square().flatten(axis + 1).mean(-1).flatten()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), [p.detach() for p in model.parameters()]


def member(weights: list[Tensor], name: str, index: int) -> list[Tensor]:
    """Weights of one member, with an axis of one where the stack was."""
    return [w.narrow(axis_of(name), index, 1) for w in weights]
