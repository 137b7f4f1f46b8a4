"""Whatever the command line or a card says, it is done, or refused in one sentence that names what is wrong.

No traceback is shown, and no file is written."""

import contextlib
import io
import re
import signal
import sys
from collections.abc import Iterator

import bad_cards
import bad_inputs as bad
import papermill
import pytest
import yaml
from conftest import Project
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib import __main__ as command_line
from lib import cards, execute, gallery, make
from lib.errors import Refused
from lib.parameters import parameters_of

Answer = tuple[int, str, list[make.Order]]  # exit status, standard error, what would have been made

FUZZED = settings(
    max_examples=80, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class Trial:
    """The command line on a small project, in this process; notebooks are not run, but what would be is told."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.card = project.root / "notebooks/demo/walk.yml"
        self.orders: list[make.Order] = []

    def make(self, order: make.Order) -> bool:
        self.orders.append(order)
        return True

    def listing(self) -> dict[str, tuple[int, int]]:
        """Every file and folder, with when it was written and how large it is."""
        paths = [path for path in self.project.root.rglob("*") if "__pycache__" not in path.parts]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    def run(self, *arguments: str) -> Answer:
        """Run a command, and see that it writes nothing, tells no traceback and at most one sentence."""
        self.orders.clear()
        before, told = self.listing(), io.StringIO()
        with contextlib.redirect_stderr(told):
            status = command_line.main(list(arguments))
        assert self.listing() == before
        sentence = told.getvalue()
        assert "Traceback" not in sentence
        assert (status, sentence, len(self.orders)) == (0, "", 1) or status == 2
        if status:
            assert not self.orders
            assert re.fullmatch(r"refused: [^\n]+\n", sentence)
            assert len(sentence) < 1500
        return status, sentence, list(self.orders)

    def refuses(self, *arguments: str, told: tuple[str, ...] = ()) -> None:
        status, sentence, _ = self.run(*arguments)
        assert status == 2
        for words in told:
            assert words in sentence

    def with_card(self, content: bytes | str) -> Answer:
        self.card.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.run("figures")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    project = Project(tmp_path_factory.mktemp("project"))
    project.add(parameters=bad.CELL)
    project.root.joinpath("figures").mkdir()
    project.root.joinpath("build").mkdir()
    tried = Trial(project)
    handlers = {ending: signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        for module in (cards, gallery):
            patch.setattr(module, "ROOT", project.root)
        patch.setattr(cards, "NOTEBOOKS", project.root / "notebooks")
        patch.setattr(cards, "FIGURES", project.root / "figures")
        patch.setattr(cards, "BUILD", project.root / "build")
        patch.setattr(make, "make", tried.make)
        patch.setattr(sys, "argv", ["python -m lib"])
        patch.chdir(project.root)
        yield tried
    for ending, handler in handlers.items():
        signal.signal(ending, handler)


@pytest.fixture
def commands(trial: Trial) -> Trial:
    """The project with its card as it should be."""
    if trial.card.read_text() != bad_cards.card():
        trial.card.write_text(bad_cards.card())
    return trial


def numbered(cases: list) -> list:
    """Test cases by number: their texts are no names for tests."""
    return [
        pytest.param(*case, id=f"{case[0]}-{n}".encode("ascii", "replace").decode()[:40])
        for n, case in enumerate(cases)
    ]


# -- the command line -------------------------------------------------------------------------------------------------

VALUES = [(name, text) for name, texts in bad.BAD_VALUES.items() for text in texts]
WORDS = [(option, word) for option, words in bad.BAD_WORDS.items() for word in words]


@pytest.mark.parametrize(("name", "text"), numbered(VALUES))
def test_a_bad_value_is_refused_with_its_parameter_and_what_it_takes(name: str, text: str, commands: Trial):
    allowed = parameters_of(commands.card.with_suffix(".ipynb"))[name].allowed()
    commands.refuses("figures", "--params", f"{name}={text}", told=(f"parameter {name} must", allowed))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    numbered([(name, text, value) for name, values in bad.GOOD_VALUES.items() for text, value in values.items()]),
)
def test_a_valid_neighbour_is_taken_as_it_was_meant(name: str, text: str, value: object, commands: Trial):
    status, _, (order,) = commands.run("figures", "--scale", "quick", "--params", f"{name}={text}")
    taken = order.papers[0].parameters(order.scale, order.device, order.overrides)[name]
    assert status == 0
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(("option", "word"), numbered(WORDS))
def test_a_bad_word_is_refused_with_its_option_and_the_words_there_are(option: str, word: str, commands: Trial):
    commands.refuses("figures", f"{option}={word}", told=bad.ALLOWED_WORDS[option])


@pytest.mark.parametrize(
    ("arguments", "told"), [pytest.param(*case, id=str(n)) for n, case in enumerate(bad.BAD_COMMANDS)]
)
def test_a_bad_command_is_refused_in_the_same_one_sentence(
    arguments: list[str], told: tuple[str, ...], commands: Trial
):
    commands.refuses(*arguments, told=told)


@pytest.mark.parametrize("name", [pytest.param(name, id=str(n)) for n, name in enumerate(bad.BAD_NAMES)])
def test_an_unknown_parameter_is_refused_with_those_there_are(name: str, commands: Trial):
    known = "pairs" if " " in name else "it has seeds, steps, lr, spare"
    commands.refuses("figures", "--params", f"{name}=1", told=(known,))


@pytest.mark.parametrize("pair", bad.BAD_PAIRS)
def test_what_is_no_pair_is_refused(pair: str, commands: Trial):
    commands.refuses("figures", "--params", pair, told=("PARAMS must be 'name=value' pairs",))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--paper", "walk"],
        ["--paper", "walk,walk walk"],
        ["--paper", ""],
        ["--scale", "paper", "--device", "cpu"],
        ["--executor", "serial"],
        ["--params", " steps=4   lr=1 "],
    ],
)
def test_a_valid_command_is_carried_out(arguments: list[str], commands: Trial):
    status, _, (order,) = commands.run("figures", *arguments)
    assert status == 0
    assert [card.key for card in order.papers] == ["walk"]


@FUZZED
@given(st.sampled_from(list(bad.BAD_VALUES)), st.text(max_size=20))
@example("steps", "\x85")
def test_any_text_for_a_parameter_is_taken_or_refused_by_name(trial: Trial, name: str, text: str):
    trial.card.write_text(bad_cards.card())
    status, sentence, _ = trial.run("figures", "--params", f"{name}={text}")
    assert status == 0 or name in sentence or "PARAMS" in sentence


@FUZZED
@given(st.sampled_from(list(bad.BAD_WORDS)), st.text(max_size=12).filter(lambda text: ":" not in text))
def test_any_word_for_an_option_is_taken_or_refused_by_name(trial: Trial, option: str, word: str):
    trial.card.write_text(bad_cards.card())
    status, sentence, _ = trial.run("figures", f"{option}={word}")
    assert status == 0 or all(words in sentence for words in bad.ALLOWED_WORDS[option])


# -- cards ------------------------------------------------------------------------------------------------------------

FIELDS = [(name, text) for name, texts in bad_cards.BAD_FIELDS.items() for text in texts]
CLAIMS = [(name, text) for name, texts in bad_cards.BAD_CLAIMS.items() for text in texts]
SCALES = [(name, text) for name, texts in bad_cards.BAD_SCALES.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), numbered(FIELDS))
def test_a_bad_field_of_a_card_is_refused_by_name(name: str, text: str, trial: Trial):
    status, sentence, _ = trial.with_card(bad_cards.card({name: text}))
    assert status == 2
    assert "walk.yml" in sentence
    assert re.search(rf"\b{name}\b", sentence)


@pytest.mark.parametrize(("name", "text"), numbered(CLAIMS))
def test_a_bad_field_of_a_claim_is_refused_by_name(name: str, text: str, trial: Trial):
    status, sentence, _ = trial.with_card(bad_cards.card(None, {name: text}))
    assert status == 2
    assert "walk.yml" in sentence
    assert re.search(rf"\b{name}\b", sentence)


@pytest.mark.parametrize(("name", "text"), numbered(SCALES))
def test_a_bad_value_of_a_scale_is_refused_by_name(name: str, text: str, trial: Trial):
    status, sentence, _ = trial.with_card(bad_cards.card({"scales": f"{{standard: {{{name}: {text}}}}}"}))
    assert status == 2
    assert "walk.yml" in sentence
    assert re.search(rf"\b{name}\b", sentence)


@pytest.mark.parametrize(
    "name", [*bad_cards.TOP, *(name for name, value in bad_cards.CLAIM.items() if name in "id statement where reason")]
)
def test_a_field_that_is_missing_is_refused_by_name(name: str, trial: Trial):
    text = bad_cards.card({name: None}) if name in bad_cards.TOP else bad_cards.card(None, {name: None})
    status, sentence, _ = trial.with_card(text)
    assert status == 2
    assert f"the field {name} is missing; there must be" in sentence


@pytest.mark.parametrize("name", list(bad_cards.BAD_CARDS))
def test_what_is_no_card_is_refused_with_its_file(name: str, trial: Trial):
    status, sentence, _ = trial.with_card(bad_cards.BAD_CARDS[name])
    assert status == 2
    assert "walk.yml" in sentence


@pytest.mark.parametrize("name", list(bad_cards.GOOD_CARDS))
def test_a_valid_neighbour_of_a_bad_card_is_taken(name: str, trial: Trial):
    status, sentence, _ = trial.with_card(bad_cards.GOOD_CARDS[name])
    assert (status, sentence) == (0, "")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@FUZZED
@given(st.sampled_from([*bad_cards.TOP, *bad_cards.CLAIM]), JUNK)
@example("n_seeds", True)
def test_junk_in_any_field_of_a_card_is_taken_or_refused_by_name(trial: Trial, name: str, junk: object):
    content = yaml.safe_load(bad_cards.card())
    place = content if name in content else content["claims"][0]
    kind = type(place[name])
    place[name] = junk
    status, sentence, _ = trial.with_card(yaml.safe_dump(content, allow_unicode=True))
    if status:
        assert re.search(rf"\b{name}\b|line \d+", sentence)
    else:
        assert isinstance(junk, kind | {str: int | float | str}.get(kind, kind) if name == "expected" else kind | int)
        assert name in ("control", "expected") or not isinstance(junk, bool)


@FUZZED
@given(
    st.integers(0, len(bad_cards.card())),
    st.integers(0, 6),
    st.text("\t\n :-[]{}#&*!|>'\"%@`,?0e.~\x00é\u2028", max_size=4),
)
def test_a_card_with_a_slip_of_the_pen_is_taken_or_refused_in_one_sentence(trial: Trial, at: int, cut: int, put: str):
    text = bad_cards.card()
    trial.with_card(text[:at] + put + text[at + cut :])


@FUZZED
@given(st.binary(max_size=60))
def test_bytes_are_refused_with_the_file(trial: Trial, content: bytes):
    status, sentence, _ = trial.with_card(content)
    assert status == 2
    assert "walk.yml" in sentence


def test_there_are_many_of_these():
    assert len(VALUES) + len(WORDS) + len(FIELDS) + len(CLAIMS) + len(SCALES) + len(bad_cards.BAD_CARDS) >= 300


# -- in a process of its own, and in the notebook ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "content", "told"),
    [
        (["figures", "--params", "steps=-3"], bad_cards.card(), "parameter steps must be at least 1, got -3"),
        (["figures", "--paper", b"\xff"], bad_cards.card(), r"PAPER='\udcff' is unknown; use one or several of walk"),
        (["check"], bad_cards.card({"year": "0123"}), "year: 0123"),
        (["check"], bad_cards.BAD_CARDS["deep"].decode(), "cannot be read as a card"),
    ],
)
def test_a_true_command_refuses_in_one_sentence_and_writes_nothing(
    arguments: list, content: str, told: str, project: Project
):
    project.add(parameters=bad.CELL).with_suffix(".yml").write_text(content)
    project.refuses(*arguments, told=told)


def test_a_notebook_that_asks_for_too_much_memory_ends_in_a_sentence(tmp_path, monkeypatch):
    def too_large(*_: object, **__: object) -> None:
        raise papermill.PapermillExecutionError(
            3, 4, "", "RunFailed", "walk(steps=9) raised _ArrayMemoryError: Unable to allocate 9 TiB", []
        )

    monkeypatch.setattr(papermill, "execute_notebook", too_large)
    trouble = execute.execute(str(tmp_path / "walk.ipynb"), str(tmp_path / "out/walk.ipynb"), {})
    assert trouble.startswith("memory is short; take smaller values of the parameters")
    assert "walk(steps=9)" in trouble
    assert not list((tmp_path / "out").iterdir())


def test_a_parameters_cell_with_a_name_twice_is_refused(project: Project):
    path = project.add(parameters=bad.CELL + "\nsteps: int = 4  # again")
    with pytest.raises(Refused, match="declares 'steps' twice"):
        parameters_of(path)
