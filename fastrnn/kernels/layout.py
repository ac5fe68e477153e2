"""What Python and the compiled code must agree on: the fields of records, the shape of tiles, the form of packed weights.

Imports neither numba nor llvmlite, for a process that finds its machine code needs no compiler.
"""

import platform
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KERNELS = __package__


class Platform(NamedTuple):
    """An operating system, by its name in sys.platform, and a kind of processor."""

    system: str
    machine: str

    @property
    def triple(self) -> str:
        """LLVM's name of the platform; "" where only LLVM can tell it."""
        return TRIPLES.get(self, "")

    @property
    def is_windows(self) -> bool:
        return self.system == "win32"

    @property
    def is_arm(self) -> bool:
        return self.machine == "aarch64"


# With the oldest version of macOS that each kind of processor has
TRIPLES: dict[tuple[str, str], str] = {
    ("linux", "x86_64"): "x86_64-unknown-linux-gnu",
    ("linux", "aarch64"): "aarch64-unknown-linux-gnu",
    ("darwin", "x86_64"): "x86_64-apple-macosx10.15",
    ("darwin", "aarch64"): "arm64-apple-macosx11.0",
    ("win32", "x86_64"): "x86_64-pc-windows-msvc",
}


def platform_of(system: str, machine: str) -> Platform:
    """Return a platform by the names that Python has for it there."""
    lower = machine.lower()
    return Platform(system, {"amd64": "x86_64", "arm64": "aarch64"}.get(lower, lower))


HERE = platform_of(sys.platform, platform.machine())
# The platform and the features that kernels are compiled for, where another process asks for those of another platform. It is set before
# the kernels are imported.
foreign: tuple[Platform, str] | None = None
LINE = 8  # words of a cache line: threads that write to one line wait for each other


class Fields:
    """The fields of a record of 64-bit words, in order. From one field to the next it is `spacing` words."""

    def __init__(self, name: str, fields: str, *, spacing: int = 1) -> None:
        self.name, self.names, self.spacing = name, tuple(fields.split()), spacing
        self.offsets = {field: i * spacing for i, field in enumerate(self.names)}
        self.words = len(self.names) * spacing

    def fill(self, words: NDArray[np.int64], **values: int) -> None:
        for field, value in values.items():
            words[self.offsets[field]] = value

    def filled(self, **values: int) -> NDArray[np.int64]:
        """Make a record; fields that aren't given are 0."""
        words = [0] * self.words
        for field, value in values.items():
            words[self.offsets[field]] = value
        return np.array(words, np.int64)


# A layer. It holds the addresses of its operations (0 where it has none), of their parameters, of its packed weights and of its bias. A
# table of embeddings isn't packed: its rows are read where they are. Lengths and strides count elements.
LAYER = Fields(
    "Layer",
    "feed enter recur finish product activation recurrent_activation "  # operations
    "parameters recurrent_parameters "  # of the two activations: MOST_PARAMETERS doubles each
    "input_size output_size "
    "hidden "  # units; as many as outputs, where no projection makes fewer of them
    "columns "  # of a gate's packed output: panels as wide as registers
    "stride "  # elements from row to row in the workspace: the cell's slots, each `columns` wide
    "gates state_arrays phases "  # as in Cell
    "shared_from "  # sequences side by side: from so many on, threads share each step's columns
    "projected "  # columns of the packed weight_hr
    "half half_hr "  # how many products with weight_hh and weight_hr are summed first
    "default_activations peephole "  # of a gated cell: whether they are tanh and sigmoid, and whether its gates see the cell's state
    "weight weight_hh weight_hr bias vector_hh",  # vector_hh: for each gate what the state has besides a matrix
)
MOST_PARAMETERS = 2  # of an activation
# A piece of work, which is one kernel call: the layers, and where the data is. Optional features are separate operations, called only if
# their address in the job is not 0.
JOB = Fields(
    "Job",
    "function run "  # the operations that Python calls, and that it calls to run the layers
    "layers depth itemsize "  # the first layer's record, how many there are, bytes of an element
    "steps count "  # of the piece: time steps, and sequences
    "block chunk "  # sequences side by side, and steps from layer to layer, at most
    "first total begun "  # the piece's first sequence among all in out and states, how many those are, and its first step
    # where the first sequence's first step in x is, and elements from one sequence to the next, and from one step to the next
    "x x_sequence x_step "
    "out out_sequence out_step out_size states "  # the same of out, the elements it receives a step (0 for no output), and the states
    "rows buffer "  # the workspace of two layers' rows, and elements of each
    "table generation "  # where sequences are, if they differ in length; how tokens are chosen
    "feed trim leave sink claim barrier divide share "  # operations in place of the first layer's feed and of storing; and a team's
    "team number "  # the team that works on the piece, and the piece's number
    # how many workers may help, bytes of the rows that each of them needs, and how often the leader looks for those that share steps
    "helpers room patience "
    "matrices packed",  # of `pack_and_run`: how many matrices follow the layers, and bytes of their panels
)
# What one thread works on at a time: some steps of a block of sequences, which it takes through one layer after the other.
CHUNK = Fields(
    "Chunk",
    "n together "  # the first sequence, and how many
    "t span "  # the first step, and how many
    "first_step own_steps "  # the steps of those that this thread projects, finishes and stores
    "source step sequence "  # what the layer reads: an address, elements from step to step, and from sequence to sequence
    "input_rows output_rows rows state "  # the rows of the layer before and of this one, this thread's own, and this layer's states
    "at steps left right phase phases "  # of a cell: from which step how many, which columns (of a feed, too), which phases
    "member members generation",  # of a team: which one this thread is, how many there are, and barriers so far
)
# Constants of this process that the built-ins need: the bytes from an object's start to its type; the addresses of None, of types, of
# functions, of errors and of their texts.
PYTHON = Fields(
    "Python",
    "type_at none true false tuple int array bool_dtype int64_dtype new_array set_base type_error runtime_error "
    "text_call text_checked_call text_advance text_advance_rows text_hold text_in_use",
)
ARRAY = Fields("Array", "kind data dimensions sizes strides base dtype flags")  # NumPy's own record, from the type on
# A prepared call of `checked_call`, `advance` or `advance_rows`: the address of its job, what it takes, and whether it is brief. The sizes
# of x, of the output and of each array of the layers' states follow, then the job itself.
CALL_SPEC = Fields(
    "CallSpec",
    "job dtype x_dtype "
    "vocabulary "  # of tokens; 0 where x holds numbers
    # the output has `dimensions`, a state one less, but as many where a call is a single step
    "x_dimensions dimensions states brief sequences elements x_bytes out_bytes "
    "unit_bytes",  # of the states of one unit
)
# What a built-in passes to an operation: the addresses of its arrays' first elements, at most 12 of them.
ARGUMENTS = Fields("Arguments", "job", spacing=12)
RUN_SERIAL = Fields("RunSerial", "job space x out states")
RUN_SHARED = Fields("RunShared", "job space x out states team")
PACK_AND_RUN = Fields("PackAndRun", "job space x out states first_matrix")
PACK = Fields("Pack", "matrix weight panels")
STEP_ROWS = Fields("StepRows", "job space x out states reset_mask rows team")
MOVE_ROWS = Fields("MoveRows", "job states reset_mask rows")
# The objects that Python passes to `advance` and `advance_rows`, in order.
ADVANCE = Fields("Advance", "in_use spec space states first x out reset")
ADVANCE_ROWS = Fields("AdvanceRows", "in_use spec space states rows x at out reset_mask team")
# The lock of a stream or a bank: `taken` is 1 while a call uses it, else 0. And a single token that came as a Python int.
LOCK = Fields("Lock", "taken")
TOKEN = Fields("Token", "value overflow")
# The operands of one product of rows with packed weights.
FACTORS = Fields("Factors", "x x_stride count size half weights columns start start_stride out out_stride")
# A matrix to pack: gates of `outputs` rows each, zero from there to `columns`; its panels begin at `start`.
MATRIX = Fields("Matrix", "function size row_stride outputs columns gates start")
# How the next token is chosen. The temperature holds the bits of a double.
GENERATION = Fields("Generation", "temperature top_k stop uniforms per_sequence")
# The states of a bank, each array of `capacity` rows; a word for each row; the state that rows start from.
BANK = Fields("Bank", "states capacity handed start")
# What the threads of a team share: each word has a cache line of its own, so that writes to one don't slow reads of another. The job
# follows, then a line for each member.
TEAM = Fields("Team", "gate next members split_at number address pool workers space", spacing=LINE)
TEAM_JOB = TEAM.words
TEAM_MEMBERS = TEAM_JOB + -(-JOB.words // LINE) * LINE
MOST_WORKERS = 127
TEAM_BYTES = 8 * (TEAM_MEMBERS + (1 + MOST_WORKERS) * LINE)
TEAMS = 32  # as many calls can have workers at the same time
# What all workers share; mutex and condition are the system's, of 128 bytes at most. And what each worker has: `done` has, for each team,
# the number of the last piece that this worker has worked on.
POOL = Fields("Pool", "opened lookers busy sleepers wakes teams mutex condition", spacing=2 * LINE)
WORKER = Fields("Worker", "pool head done memory size")

# A bank's word for each row. The low bits are the row's state: SEEN only while rows are checked. The next bits count the row's steps. The
# highest bits are the number of the `add` or `drop` that wrote the word, so a row that was dropped and added again has another word.
FREE, HANDED, SEEN, ROW_STATE = range(4)
CHANGE = ROW_STATE + 1
WRITTEN, MOST_WRITTEN = 1 << 34, 1 << 29

# The rows of a table with a column for each sequence: the elements from x and from out to its first step, its index in the states, and
# its length.
IN_X, IN_OUT, IN_STATES, LENGTH = range(TABLE_ROWS := 4)

TOGETHER = 64  # sequences that step together, so that weights are read once for all of them
BLOCK = 32  # a softmax's row is summed in 32 interleaved partial sums, whatever the registers' width
TWO_SUMS = 512  # bytes: products with a state of at most this size are summed in two halves. No gain above; DEPTH elements are the limit
DEPTH = 128  # 4 vectors of a panel so deep are 32 KB: two thirds of L1; 154 GFLOP/s against 139 at H 256
NOTHING = -1  # no token can be chosen: a row holds NaN, or infinity where only finite logits make sense
PATIENT_SPINS = 4000  # reads of a word before a waiting thread sleeps between reads: 40 to 160 us of x86 pauses
BACKOFF_CALLS = 1000  # short calls that ask for no workers after a worker came late or not at all: other programs use the processors
LATE_SPINS = PATIENT_SPINS + 20  # reads of a gate, 1 ms of short sleeps among them: a worker still inside then is preempted
PROMPT_SPINS = 400  # reads of a gate before a leader goes on without a worker that was spinning
BARRIERS = 1 << 22  # barriers in a piece, more than WORK allows; a word has room for those of 2^41 pieces

# Bytes at the front of a workspace: the thread's own job and chunk.
JOB_BYTES, HEAD_BYTES = 512, 1024


class Cell(NamedTuple):
    """What the engine knows of a recurrent layer's cell: the contract of the driver (network.py) and the cell's kernel.

    A kernel takes N = `chunk.together` sequences, side by side, through a chunk of steps. It finds them in an array at
    `chunk.output_rows`, of shape (1 + chunk.span, N, row_slots, columns): row 0 has the state before the chunk's first step, row 1 + t
    belongs to step t. A row has `row_slots` slots for each sequence. A slot has `layer.columns` elements: the layer's units, padded to
    whole registers.

    1. Feed (feeds.py): gate g of W x_t + b, for every step t, is written to slot g of row 1 + t. Slots from `gates` on are not written:
       they hold whatever was there before, perhaps NaN.
    2. State: array k of the layer's state is copied to slot k of row 0, for each k below `state_arrays`. Array 0 is as long as the output,
       each other one as the units; zeros follow, up to the slot's end.
    3. `enter`, in cells that have it: called once for all columns, to complete row 0, where the caller gives only some arrays of the state.
       (`leaky_enter` computes the output, slot 0, from the units' values, slot 1.)
    4. Steps: the kernel is called. A call takes the steps from `chunk.at` to at + steps, in the columns from `chunk.left` to right of
       every slot, through those phases p with `chunk.phase` <= p < `chunk.phases`. A step t, when all of its phases are done,
       a. has read the state before it from row t, and its projected gates from row 1 + t,
       b. has added the products with U, of which the packed `weight_hh` has one for each gate, and applied the activations,
       c. has left the state after it in the first `state_arrays` slots of row 1 + t: the output in slot 0, then the state's other arrays.
    5. State: slot k of the last row is copied to array k of the layer's state. (A sequence that has ended while others are generated
       keeps the state that it had.)
    6. Output: slot 0 of every row 1 + t is read by the next layer's feed, or copied to the caller's array.

    Phases and columns: one thread takes all steps, columns and phases in one call, step after step, and phase after phase in each.
    Threads that share steps each take their own columns, in one call for each phase of each step, with a barrier after every call. A
    product reads all columns of its input, so a product of something that the same step computes needs a second phase. A phase
    - writes nothing but its columns `left` to `right` of row 1 + t, and of row t in slots from 1 on that were read before. (`gru` puts
      U_n h + b_hn where the step before had its update gate.) Slot 0 of row t is still needed, for point 6.
    - reads other columns only of slots that nothing is written to in the same phase.

    Padding, the elements of a slot past the units, is computed as units are, and can become NaN. No product may read it: a product
    with `weight_hh` reads as many elements of a slot as there are outputs, one with `weight_hr` as many as there are units.

    Activations: `layer.activation` and `layer.recurrent_activation` are addresses of operations, 0 for the identity; `activate` in
    cells/recurrent.py calls one for a slot's columns. `layer.default_activations` is 1 where these are tanh and sigmoid, and no gate has a
    peephole: then a kernel may compute them in registers (`tanh_vector`, `sigmoid_vector`), without a call. A kernel that doesn't look at
    `default_activations` is right, too.

    A layer's vectors: `layer.vector_hh` has `layer.columns` elements for each gate: peepholes, leaks, a bias. Where the layer has none,
    there is nothing to be read.
    """

    module: str  # of the kernel, which has the cell's name there
    gates: int  # matrices stacked in weight_ih and weight_hh, and slots that the feed writes
    row_slots: int  # slots of a row: for the gates, for the state, and for what a step computes on its way
    state_arrays: int  # slots that hold the state after a step, and arrays of the layer's state
    phases: int  # of a step
    enter: str = ""  # an operation of the same module that completes a state


def check_row(name: str, cell: Cell) -> None:
    """Raise ValueError for a row of `CELLS` that no kernel could work with."""
    if not cell.module.startswith(f"{KERNELS}.cells."):
        raise ValueError(f"cell {name!r} must have module={KERNELS}.cells..., got {cell.module!r}")
    for field, least in {"gates": 1, "state_arrays": 1, "row_slots": max(cell.gates, cell.state_arrays), "phases": 1}.items():
        if getattr(cell, field) < least:
            why = ", slots for its gates and for the arrays of its state" if field == "row_slots" else ""
            raise ValueError(f"cell {name!r} must have {field}={least} at least{why}, got {getattr(cell, field)}")
    if cell.enter and cell.state_arrays == 1:
        raise ValueError(
            f"cell {name!r} must have no enter where state_arrays=1, for the caller gives all of its state, got {cell.enter!r}"
        )


def check_kernel(name: str, declared: Cell) -> None:
    """Check a cell's row against the one that its kernel declares."""
    if name not in CELLS:
        raise ValueError(f"cell {name!r} must have a row in CELLS, got a kernel alone")
    for field, needed, given in zip(Cell._fields, declared, CELLS[name], strict=True):
        if given != needed:
            raise ValueError(f"cell {name!r} must have {field}={needed!r} in CELLS, as its kernel declares, got {given!r}")


CELLS = {
    "elman": Cell(f"{KERNELS}.cells.elman", gates=1, row_slots=1, state_arrays=1, phases=1),
    "gru": Cell(f"{KERNELS}.cells.gru", gates=3, row_slots=3, state_arrays=1, phases=1),
    "gru_reset_before": Cell(f"{KERNELS}.cells.gru", gates=3, row_slots=3, state_arrays=1, phases=2),
    "leaky_output": Cell(f"{KERNELS}.cells.leaky", gates=1, row_slots=1, state_arrays=1, phases=1),
    "leaky_input": Cell(f"{KERNELS}.cells.leaky", gates=1, row_slots=2, state_arrays=2, phases=1, enter="leaky_enter"),
    "lstm": Cell(f"{KERNELS}.cells.lstm", gates=4, row_slots=4, state_arrays=2, phases=1),
    "lstm_projected": Cell(f"{KERNELS}.cells.lstm", gates=4, row_slots=4, state_arrays=2, phases=2),
}
DENSE = Cell("", gates=1, row_slots=1, state_arrays=0, phases=0)

# Each operation: its module, and whether it is compiled for each dtype. The function has the operation's name.
OPERATIONS: dict[str, tuple[str, bool]] = {
    "call": (f"{KERNELS}.entry", False),
    "checked_call": (f"{KERNELS}.entry", False),
    "advance": (f"{KERNELS}.entry", False),
    "advance_rows": (f"{KERNELS}.entry", False),
    "hold": (f"{KERNELS}.entry", False),
    "run_serial": (f"{KERNELS}.network", False),
    "run": (f"{KERNELS}.network", False),
    "pack_and_run": (f"{KERNELS}.pack_and_run", False),
    "step_rows": (f"{KERNELS}.bank", False),
    "take_rows": (f"{KERNELS}.bank", False),
    "put_rows": (f"{KERNELS}.bank", False),
    "pack": (f"{KERNELS}.product", True),
    "product": (f"{KERNELS}.product", True),
    "project": (f"{KERNELS}.feeds", True),
    "embed": (f"{KERNELS}.feeds", True),
    "look_up": (f"{KERNELS}.feeds", False),
    "trim": (f"{KERNELS}.ragged", False),
    "gather": (f"{KERNELS}.ragged", False),
    "tanh": (f"{KERNELS}.simd.elementary", True),
    "relu": (f"{KERNELS}.simd.elementary", True),
    "sigmoid": (f"{KERNELS}.simd.elementary", True),
    "hard_sigmoid": (f"{KERNELS}.simd.elementary", True),
    "softplus": (f"{KERNELS}.simd.elementary", True),
    "softsign": (f"{KERNELS}.simd.elementary", True),
    "leaky_relu": (f"{KERNELS}.simd.elementary", True),
    "elu": (f"{KERNELS}.simd.elementary", True),
    "clipped_line": (f"{KERNELS}.simd.elementary", True),
    "softmax": (f"{KERNELS}.softmax", True),
    "log_softmax": (f"{KERNELS}.softmax", True),
    "score": (f"{KERNELS}.choice", True),
    "argmax": (f"{KERNELS}.choice", True),
    "sample": (f"{KERNELS}.choice", True),
    "repeat": (f"{KERNELS}.choice", False),
    **{f"merge_{name}": (f"{KERNELS}.merge", True) for name in ("sum", "mean", "product")},
    "leave": (f"{KERNELS}.choice", False),
    "run_shared": (f"{KERNELS}.threads.team", False),
    "work": (f"{KERNELS}.threads.workers", False),
    "each": (f"{KERNELS}.each", False),
    "claim": (f"{KERNELS}.threads.team", False),
    "barrier": (f"{KERNELS}.threads.team", False),
    "divide": (f"{KERNELS}.threads.team", False),
    "share": (f"{KERNELS}.threads.team", False),
}


def add_cells(operations: dict[str, tuple[str, bool]], cells: dict[str, Cell]) -> None:
    """Check the table of cells, and add their operations to the others."""
    for name, cell in cells.items():
        check_row(name, cell)
        for field, operation in (("a name", name), ("enter", cell.enter)):
            if operation in operations:
                raise ValueError(f"cell {name!r} must have {field} that no other operation has, got {operation!r}")
            if operation:
                operations[operation] = cell.module, True


add_cells(OPERATIONS, CELLS)


class Shape(NamedTuple):
    """The bits of a register, the rows and vectors of a tile, and whether the processor has fused multiply-add."""

    bits: int
    rows: int
    vectors: int
    has_fma: bool

    @property
    def panels(self) -> tuple[int, int, int]:
        """The vectors of a full panel of packed weights, and of the two narrower panels that may end a matrix."""
        return self.vectors, max(self.vectors // 2, 1), 1

    def lanes(self, itemsize: int) -> int:
        return self.bits // (8 * itemsize)

    def padded(self, size: int, itemsize: int) -> int:
        """Return the number of columns after padding `size` outputs to whole panels."""
        return padded(size, self.lanes(itemsize), self.vectors)


def shape_of(features: str, where: Platform = HERE) -> Shape:
    """Return the shape of tiles for a target with these features: "+avx2,-avx512f"."""
    names = features.split(",")
    if where.is_arm:
        return Shape(128, 4, 4, True)
    if "+avx512f" in names:
        return Shape(512, 4, 4, True)
    # 16 registers: 4 x 4 would spill
    return Shape(256 if "+avx" in names else 128, 6, 2, "+fma" in names)


def padded(size: int, lanes: int, full: int) -> int:
    """Return the number of columns after padding: full panels, then at most half a panel or one vector."""
    vectors = -(-size // lanes)
    rest = vectors % full
    return (vectors - rest + (full if rest > max(full // 2, 1) else rest)) * lanes


def first_half(size: int, itemsize: int) -> int:
    """Return how many products of a state's row make the first sum. The others make a second one, which is added to it."""
    return (size + 1) // 2 if size * itemsize <= TWO_SUMS else size


JOB_SIZES = "steps", "count", "total", "block", "chunk", "buffer", "x_step", "x_sequence", "out_step", "out_sequence", "out_size"


def job_sizes(steps: int, sequences: int, inputs: int, outputs: int, block: int, rows: int, widest: int) -> tuple[int, ...]:
    """Return a job's fields JOB_SIZES for C-contiguous x and out: `block` sequences run side by side, in `rows` rows of a workspace."""
    chunk, buffer = min(steps, rows // block - 1), rows * widest
    return steps, sequences, sequences, block, chunk, buffer, inputs, steps * inputs, outputs, steps * outputs, outputs
