r"""Facts written in sentences, and questions about them: what is stored in pretraining and asked for after finetuning.

    subject s,  words w_1 … w_L,  template r,  answer a        pretraining: r is one of the K templates of the fact
    subject s,  words w_1 … w_L,  question q,  answer a        finetuning and test: the question replaces the template

Source: Xu and Chen 2025, arXiv 2508.00901 (subject, relation template, answer; the question format is new in finetuning).
Every subject has one answer per relation, and all relations share one set of answers, so that the subject alone does
not give the answer: the template must be read. A relation can be written with R templates; of these, each fact uses K
that were drawn for it. The question asks for relation 0. Words carry nothing; slot j has its own n_words words.

| paper | code                  | meaning                                                              |
|-------|-----------------------|----------------------------------------------------------------------|
| K     | `multiplicity`        | templates that a fact is written with in pretraining                 |
| \|R\| | `n_templates`         | templates of a relation                                              |
| N_f   | `n_finetuned`         | subjects whose question is answered in finetuning: the first N_f     |
|       | `n_known`             | subjects that occur in pretraining; those behind them never do       |

Settings (pairs of K and |R|) are stacked in front of seeds: a setting with few templates uses the first ones of a
vocabulary that holds the most. All settings of a seed share its draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lib.seeds import generator_for


@dataclass(frozen=True)
class Vocabulary:
    """Token numbers. Inputs: subjects, words, templates, the question. Outputs: words, templates, answers.

    Attributes:
        n_subjects: Subjects, the unknown ones included.
        n_relations: Facts per subject.
        n_templates: Most templates of a relation in any setting.
        n_answers: Answers, shared by the relations.
        n_slots: Words between subject and template.
        n_words: Words that a slot chooses from.

    Raises:
        ValueError: A size below 1, or fewer than two answers.

    >>> Vocabulary(n_subjects=5, n_relations=2, n_templates=3, n_answers=4, n_slots=1, n_words=2).n_tokens
    14
    """

    n_subjects: int
    n_relations: int
    n_templates: int
    n_answers: int
    n_slots: int
    n_words: int

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if self.n_answers < 2:
            raise ValueError(f"n_answers is {self.n_answers}; it must be at least 2")

    @property
    def first_template(self) -> int:
        """Input number of template 0 of relation 0."""
        return self.n_subjects + self.n_slots * self.n_words

    @property
    def question(self) -> int:
        """Input number of the question, the last one."""
        return self.first_template + self.n_relations * self.n_templates

    @property
    def n_tokens(self) -> int:
        """Inputs."""
        return self.question + 1

    @property
    def first_answer(self) -> int:
        """Output number of answer 0."""
        return self.question - self.n_subjects

    @property
    def n_outputs(self) -> int:
        """Outputs."""
        return self.first_answer + self.n_answers

    @property
    def length(self) -> int:
        """Tokens before the answer: subject, words, template or question."""
        return self.n_slots + 2


@dataclass(frozen=True)
class Facts:
    """What is true, per setting and seed.

    Attributes:
        vocabulary: Token numbers.
        n_known: Subjects that pretraining shows: the first ones.
        multiplicities: K of each setting.
        n_templates: R of each setting.
        answers: (setting, seed, subject, relation).
        templates: (setting, seed, subject, relation, largest K); only the first K of a setting are used.
    """

    vocabulary: Vocabulary
    n_known: int
    multiplicities: tuple[int, ...]
    n_templates: tuple[int, ...]
    answers: Int[Tensor, "setting seed subject relation"]
    templates: Int[Tensor, "setting seed subject relation most"]

    def used(self) -> Float[Tensor, "setting seed subject relation template"]:
        """1 where a fact is written with a template, else 0."""
        used = torch.zeros(*self.templates.shape[:-1], self.vocabulary.n_templates, device=self.templates.device)
        for i, k in enumerate(self.multiplicities):
            used[i].scatter_(-1, self.templates[i, ..., :k], 1.0)
        return used

    def to(self, device: str) -> "Facts":
        """The same facts on another device."""
        return replace(self, answers=self.answers.to(device), templates=self.templates.to(device))


def draw_facts(
    seeds: Sequence[int], vocabulary: Vocabulary, settings: Sequence[tuple[int, int]], n_known: int
) -> Facts:
    """Answers uniform, and for each fact K of its relation's R templates, without replacement.

    Args:
        seeds: One set of facts per seed.
        vocabulary: Token numbers.
        settings: Pairs (K, R).
        n_known: Subjects that pretraining will show.

    Raises:
        ValueError: No setting, more templates than the vocabulary holds, K outside 1…R, or n_known outside
            1…n_subjects.
    """
    if not settings:
        raise ValueError("settings is empty; give at least one pair (K, R)")
    if not 1 <= n_known <= vocabulary.n_subjects:
        raise ValueError(f"n_known is {n_known}; it must lie in 1…{vocabulary.n_subjects} (n_subjects)")
    for k, r in settings:
        if not 1 <= r <= vocabulary.n_templates:
            raise ValueError(f"settings has R = {r}; it must lie in 1…{vocabulary.n_templates} (n_templates)")
        if not 1 <= k <= r:
            raise ValueError(f"settings has K = {k} with R = {r}; K must lie in 1…{r}")
    most = max(k for k, _ in settings)
    shape = (vocabulary.n_subjects, vocabulary.n_relations)
    answers, ranks = [], []
    for seed in seeds:
        generator = generator_for(seed, "fact sentences: facts")
        answers.append(torch.randint(vocabulary.n_answers, shape, generator=generator))
        ranks.append(torch.rand(*shape, vocabulary.n_templates, generator=generator))
    # The K smallest of R uniform numbers are a uniform subset, in random order.
    uniform = torch.stack(ranks)
    templates = torch.stack(
        [uniform[..., :r].argsort(-1).repeat(1, 1, 1, -(-most // r))[..., :most] for _, r in settings]
    )
    return Facts(
        vocabulary,
        n_known,
        tuple(k for k, _ in settings),
        tuple(r for _, r in settings),
        torch.stack(answers).expand(len(settings), -1, -1, -1).contiguous(),
        templates,
    )


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"fact sentences: {purpose}") for seed in seeds]


def _uniforms(generators: Sequence[Generator], batch: int, n: int) -> Float[Tensor, "n seed batch"]:
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    return torch.stack([torch.rand(n, batch, generator=g) for g in generators], 1)


def _beginning(
    vocabulary: Vocabulary, subjects: Int[Tensor, "*stack batch"], uniforms: Float[Tensor, "slot seed batch"]
) -> Int[Tensor, "*stack batch time"]:
    """Subject and words, by input number."""
    words = [
        vocabulary.n_subjects + j * vocabulary.n_words + (u * vocabulary.n_words).long()
        for j, u in enumerate(uniforms.to(subjects.device))
    ]
    return torch.stack([subjects, *(w.expand(subjects.shape) for w in words)], -1)


def sentences(
    generators: Sequence[Generator], facts: Facts, batch: int
) -> tuple[Int[Tensor, "setting seed batch time"], Int[Tensor, "setting seed batch time"]]:
    """Sentences about known subjects: input tokens, and the output number that follows each of them.

    Raises:
        ValueError: An empty batch.
    """
    vocabulary = facts.vocabulary
    device, n_settings = facts.answers.device, len(facts.multiplicities)
    u = _uniforms(generators, batch, 3 + vocabulary.n_slots).to(device)
    subjects = (u[0] * facts.n_known).long().expand(n_settings, -1, -1)
    relations = (u[1] * vocabulary.n_relations).long().expand(n_settings, -1, -1)
    k = torch.tensor(facts.multiplicities, device=device)[:, None, None]
    numbers = (u[2] * k).long().clamp_max(k - 1)
    a, b = torch.arange(n_settings, device=device)[:, None, None], torch.arange(len(generators), device=device)[:, None]
    templates = relations * vocabulary.n_templates + facts.templates[a, b, subjects, relations, numbers]
    tokens = torch.cat(
        [_beginning(vocabulary, subjects, u[3:]), (vocabulary.first_template + templates)[..., None]], -1
    )
    answers = vocabulary.first_answer + facts.answers[a, b, subjects, relations]
    # What follows is the next token, counted from the first word on, and in the end the answer.
    return tokens, torch.cat([tokens[..., 1:] - vocabulary.n_subjects, answers[..., None]], -1)


def questions(
    generators: Sequence[Generator], facts: Facts, n_finetuned: Sequence[int], batch: int
) -> tuple[Int[Tensor, "copy setting seed batch time"], Int[Tensor, "copy setting seed batch"]]:
    """Questions about subjects 0…N_f - 1, one copy per N_f: input tokens and the output number of the answer.

    Raises:
        ValueError: An empty batch or finetuning set, or one with subjects that pretraining never shows.
    """
    for n in n_finetuned or [0]:
        if not 1 <= n <= facts.n_known:
            raise ValueError(f"n_finetuned has {n}; it must lie in 1…{facts.n_known} (n_known)")
    device = facts.answers.device
    u = _uniforms(generators, batch, 1 + facts.vocabulary.n_slots).to(device)
    n = torch.tensor(list(n_finetuned), device=device)[:, None, None, None]
    subjects = (u[0] * n).long().clamp_max(n - 1).expand(-1, len(facts.multiplicities), -1, -1)
    return _ask(facts, subjects, u[1:])


def all_questions(
    generators: Sequence[Generator], facts: Facts
) -> tuple[Int[Tensor, "setting seed subject time"], Int[Tensor, "setting seed subject"]]:
    """The question about every subject, unknown ones included, with drawn words."""
    n = facts.vocabulary.n_subjects
    u = _uniforms(generators, n, facts.vocabulary.n_slots).to(facts.answers.device)
    subjects = torch.arange(n, device=facts.answers.device).expand(len(facts.multiplicities), len(generators), n)
    return _ask(facts, subjects, u)


def _ask(facts: Facts, subjects: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    question = torch.full_like(subjects, facts.vocabulary.question)[..., None]
    answers = facts.answers[..., 0].expand(*subjects.shape[:-1], -1).gather(-1, subjects)
    return (
        torch.cat([_beginning(facts.vocabulary, subjects, words), question], -1),
        facts.vocabulary.first_answer + answers,
    )


def every_template(
    generators: Sequence[Generator], facts: Facts, relation: int = 0
) -> Int[Tensor, "setting seed sentence time"]:
    """Each known subject with each template of a relation, those that were never used with it included.

    Sentence n R_max + r is about subject n; a setting with R < R_max has templates there that it never saw.
    """
    vocabulary = facts.vocabulary
    n, r = facts.n_known, vocabulary.n_templates
    device = facts.answers.device
    subjects = torch.arange(n, device=device).repeat_interleave(r)
    subjects = subjects.expand(len(facts.multiplicities), len(generators), n * r)
    words = _uniforms(generators, n * r, vocabulary.n_slots).to(device)
    last = (vocabulary.first_template + relation * r + torch.arange(r, device=device).repeat(n)).expand(subjects.shape)
    return torch.cat([_beginning(vocabulary, subjects, words), last[..., None]], -1)


def with_shuffled_answers(facts: Facts, seeds: Sequence[int]) -> Facts:
    """The same facts with the subjects' answers permuted: a control that has the right answers for nobody in particular."""
    order = torch.stack(
        [
            torch.randperm(facts.vocabulary.n_subjects, generator=generator_for(s, "fact sentences: shuffle"))
            for s in seeds
        ]
    ).to(facts.answers.device)
    index = order[None, :, :, None].expand_as(facts.answers)
    return replace(facts, answers=facts.answers.gather(2, index))
