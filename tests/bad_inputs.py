"""Values and words on the command line that must be refused, and valid neighbours of them."""

CELL = """scale: str = "quick"  # quick, standard or paper
device: str = "auto"  # auto, cpu or cuda
seeds: list[int] = [0, 1]  # seeds of the runs
steps: int = 3  # length of a run
lr: float = 0.5  # size of a step
spare: int = 0  # steps at the end; 0 leaves them out
shift: float = -1.0  # where a run begins
grid: list[float] = [0.1, 1.0]  # sizes that are compared
widths: list[int] = []  # none by default
counts: list[int] = [1, 2]  # how many there are
names: list[str] = ["a", "b"]  # what the runs are called
label: str = "walk"  # what the figure is called
controls: bool = False  # whether to run the controls"""


def _words(text: str) -> list[str]:
    return text.split()


_NO_INT = _words("""
soon 3.0 1e3 0123 0o 0x -3 -1 0 +0 1000000001 True true no yes None nan inf [3] 3, '3' ３ ½ ² 3j ... lambda:3 3_
1__0 --3 3;4 {3} b'3' 10**30 3*4 __import__('os') \\ ' # = @ 1if 0x1.8p3 ٣ 1/2 (3 )""")
_NO_INT += ["9" * 31, "9" * 5000, "0x" + "f" * 5000, "(" * 5000, "-" * 9]
_NO_FLOAT = _words("""fast nan inf -inf NaN 1e999 -1e999 -0.5 -1 [0.5] True 1.0e 0,5 1e-3f None 10^-3 1j 0.5.1 '0.5' - e3 .
١.٥ 1e- {0.5}""")
_NO_FLOAT += ["9" * 400, "1" + "e" * 200]
_NO_SEEDS = _words("""
0 0,1 [0,1 0,1] [0.5] [a] [true] [[0]] [] [-1] [0,0] [4294967296] {0,1} (0,1) [None] ['0'] [0,,1] [0:1] nan
 [nan] [1e3] range(3) [*range(3)] [0][0] {0:1} set() [True]""")
_NO_SEEDS += ["[" * 3000, str(list(range(20_000))).replace(" ", ""), "[" + "1," * 10_001 + "]"]

BAD_VALUES = {
    "steps": _NO_INT,
    "lr": _NO_FLOAT,
    "seeds": _NO_SEEDS,
    "spare": ["-1", "1000000001", "0.0", "False", "[]"],
    "shift": ["nan", "-inf", "west", "[-1.0]"],
    "grid": _words("0.1 [] [a] [nan] [1e999] [-0.1] [[0.1]] [true] [0.1;1] (0.1,1.0) {0.1} ['0.1'] [1j] None"),
    "widths": ["3", "[-3]", "[0]", "[2.5]", "[1000000001]", "[[]]", "{}", "()"],
    "names": ["a", "[a]", "[1]", "[]", "[True]", "['a',1]", "('a',)", "{'a'}", r"['\n']", r"['\x00']", "['a'"],
    "label": ["a\x07b", "\udcff", "x" * 10_001, "a\u200eb", "\x1b[31m", "\x7f"],
    "controls": _words("yes no on off 0 1 2 TRUE 'true' [true] None maybe"),
}
GOOD_VALUES = {
    "steps": {"3": 3, "1": 1, "+7": 7, "1_000": 1000, "0x10": 16, "1000000000": 10**9},
    "lr": {"1e-3": 0.001, "0": 0.0, "0.0": 0.0, "3": 3.0, ".5": 0.5, "1e30": 1e30},
    "seeds": {"[0]": [0], "[7,3]": [7, 3], "[4294967295]": [4294967295]},
    "spare": {"0": 0, "5": 5},
    "shift": {"-3.5": -3.5, "2": 2.0, "-0.0": 0.0},
    "grid": {"[1]": [1.0], "[0.0,0.0]": [0.0, 0.0], "[1e-9]": [1e-9]},
    "widths": {"[]": [], "[1,1]": [1, 1]},
    "names": {"['c']": ["c"], "['é','no']": ["é", "no"], '["1"]': ["1"]},
    "label": {"no": "no", "0123": "0123", "größe=3": "größe=3", "1e-3": "1e-3", "步": "步"},
    "controls": {"true": True, "True": True, "false": False, "False": False},
}

# Words on the command line, and what the sentence must say.
BAD_COMMANDS = [
    ([], ("the following arguments are required: command",)),
    (["figure"], ("invalid choice: 'figure'", "figures", "verify", "check")),
    (["FIGURES"], ("invalid choice: 'FIGURES'", "figures")),
    (["figures", "walk"], ("unrecognized arguments: walk",)),
    (["figures", "--papers", "walk"], ("unrecognized arguments: --papers walk",)),
    (["figures", "--scal", "quick"], ("unrecognized arguments: --scal quick",)),
    (["figures", "--paper"], ("argument --paper: expected one argument",)),
    (["figures", "--scale", "--device"], ("argument --scale: expected one argument",)),
    (["figures", "--é", "1"], ("unrecognized arguments",)),
    (["verify", "--scale", "quick"], ("verify", "--scale standard")),
    (["verify", "--params", "steps=4"], ("verify", "no --params")),
    (["figures", "--params", "steps=4 steps=5"], ("PARAMS gives 'steps' 2 times",)),
    (["figures", "--params", "steps=4 lr=1 steps=4"], ("PARAMS gives 'steps' 2 times",)),
    (["figures", "--params", "seeds=[0, 1]"], ("'name=value' pairs without spaces inside", "'1]'")),
]
BAD_WORDS = {
    "--scale": (
        "big",
        "",
        " ",
        "QUICK",
        "quick ",
        "standard,paper",
        "0",
        "null",
        "größe",
        "\x00",
        "\udcff",
        "q" * 5000,
    ),
    "--paper": (
        "nobody",
        "walk.yml",
        "Walk",
        "walk;walk",
        "../walk",
        "*",
        "--",
        "läufer",
        "\x00",
        "\udc80",
        "w" * 9999,
    ),
    "--device": ("tpu", "", "CPU", "cuda:0", "gpu", "0", "mps", " cpu", "größe", "\x00", "\udcff", "c" * 5000),
    "--executor": (
        *("ray", "Serial", "loky,dask", "8", "tcp://", "tcp://:1", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "http:x"),
        *("127.0.0.1:1", "tcp://127.0.0.1:1", "tcp://127.0.0.1:99999", "tcp://[::1]:1", "größe", "\x00", "\udcff"),
        *("nowhere.yml", "nowhere.yaml", ".yml", "\x00.yml", "d" * 300 + ".yml", "notebooks/.yml"),
    ),
}
ALLOWED_WORDS = {
    "--scale": ("scale", "quick, standard, paper"),
    "--paper": ("PAPER=", "walk"),
    "--device": ("DEVICE=", "auto, cpu, cuda"),
    "--executor": ("EXECUTOR",),
}
BAD_NAMES = (
    "stepz",
    "Steps",
    "scale",
    "device",
    "steps.x",
    "шаги",
    "__class__",
    "0",
    "step s",
    "n" * 5000,
    "\udcff",
    "*",
)
BAD_PAIRS = ("steps", "=3", "steps=", "steps= 3", "=", "3", "--steps=3 =", "steps:3")
