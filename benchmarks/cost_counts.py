"""What a step of STAR's head and loss takes by the book: operations, numbers kept and moved.

Operations are those of the matrix products, 2 for each multiplication with its addition, as
``torch.utils.flop_counter`` counts them. Norms, activations and softmaxes are left out: what they
cost is the memory that they move.
"""

from typing import NamedTuple

from star_head import Parameter

VIEWS, PREDICTED, TASKS = 3, 2, 2
FLOAT_BYTES = 4
# Batch norms that a step passes in the head, and gathers of the loss: two sides of two losses.
NORM_PASSES, GATHERS = 2 * VIEWS + 2 * PREDICTED, 4


class Sizes(NamedTuple):
    """Of a head and a batch.

    Attributes:
        batch: Images in a process, B.
        width: Of the features, D; the experts' hidden layers are as wide, as the paper's.
        experts: E.
        output: Width d of the embeddings.
        processes: Between which batch norm is synchronised and the loss's negatives are gathered.
    """

    batch: int
    width: int
    experts: int
    output: int = 128
    processes: int = 1


class Work(NamedTuple):
    """What one process does in one step.

    Attributes:
        operations: Of the matrix products.
        numbers: Read from and written to memory.
    """

    operations: int
    numbers: int

    def __add__(self, other: object) -> "Work":
        """The sum of both."""
        if not isinstance(other, Work):
            return NotImplemented
        return Work(self.operations + other.operations, self.numbers + other.numbers)

    def __mul__(self, times: object) -> "Work":
        """As often as that."""
        if not isinstance(times, int):
            return NotImplemented
        return Work(times * self.operations, times * self.numbers)


def product(rows: int, inner: int, columns: int, count: int = 1) -> Work:
    """``count`` products of (rows, inner) and (inner, columns) matrices."""
    moved = rows * inner + inner * columns + rows * columns
    return Work(2 * count * rows * inner * columns, count * moved)


def layer(batch: int, d_in: int, d_out: int, count: int = 1) -> Work:
    """``count`` linear layers, forward and backward, to the weights and to the inputs.

    Three products move the weights, the inputs and the outputs three times.
    """
    return product(batch, d_in, d_out, count) * 3


def norm_and_activation(numbers: int) -> Work:
    """Batch norm and a ReLU in place, forward and backward.

    The norm reads twice and writes, and backward reads inputs and gradients twice and writes; the
    activation reads and writes, and backward reads outputs and gradients and writes.
    """
    return Work(0, 13 * numbers)


def experts(sizes: Sizes) -> Work:
    """The bank and its routers on one view."""
    b, w, e, d, _ = sizes
    hidden = norm_and_activation(e * w * b) * 2
    mixing = product(TASKS, e, d, count=b) * 3
    # The outputs are transposed to (B, E, d) and their gradients back.
    transposed = Work(0, 4 * e * d * b)
    layers = layer(b, w, w, e) * 2 + layer(b, w, d, e)
    return layers + hidden + transposed + mixing + layer(b, w, TASKS * e)


def predictor(sizes: Sizes) -> Work:
    """Psi and phi on one view; psi's inputs, the parameters, take no gradient."""
    b, _, _, d, _ = sizes
    layers = layer(b, 2 * d, 4 * d) + layer(b, 4 * d, 4 * d) + layer(b, 4 * d, d)
    return layers + norm_and_activation(4 * d * b) * 2 + product(b, len(Parameter), d) * 2


def nt_xent(pairs: int, output: int, processes: int = 1) -> Work:
    """NT-Xent of n pairs in each process, with its gradient.

    Blocks of the similarity matrix pass through the cache: they are not counted as moved.
    """
    return Work(
        3 * product(2 * pairs, output, 2 * pairs * processes).operations,
        3 * 2 * pairs * output * (1 + processes),
    )


def loss(sizes: Sizes) -> Work:
    """Both parts of STAR's loss."""
    b, _, _, d, processes = sizes
    return nt_xent(b, d, processes) + nt_xent(2 * b, d, processes)


def head_step(sizes: Sizes) -> Work:
    """All of a step but the backbone's part: three views, two predictions, the loss.

    Gradients of a later view are added to those that are there: two reads and a write.
    """
    added = (VIEWS - 1) * expert_weights(sizes) + (PREDICTED - 1) * predictor_weights(sizes)
    work = experts(sizes) * VIEWS + predictor(sizes) * PREDICTED + loss(sizes)
    return work + Work(0, 3 * added)


def expert_weights(sizes: Sizes) -> int:
    """Parameters of the bank and its routers."""
    _, w, e, d, _ = sizes
    bank = e * (2 * w * w + w * d + d) + 2 * 2 * e * w
    return bank + (w + 1) * TASKS * e


def predictor_weights(sizes: Sizes) -> int:
    """Parameters of psi and phi."""
    d = sizes.output
    phi = 2 * d * 4 * d + 4 * d * 4 * d + 4 * d * d + d + 2 * 2 * 4 * d
    return phi + (len(Parameter) + 1) * d


def head_weights(sizes: Sizes) -> int:
    """Parameters of the head."""
    return expert_weights(sizes) + predictor_weights(sizes)


def expert_activations(sizes: Sizes) -> int:
    """Numbers that the bank keeps of one view for the backward pass, without the features.

    Of a hidden layer what its norm and its activation gave, and the norm's statistics; the outputs;
    the routing weights.
    """
    b, w, e, d, _ = sizes
    return 2 * (2 * e * w * b + 2 * e * w) + b * e * d + b * TASKS * e


def predictor_activations(sizes: Sizes) -> int:
    """Numbers that the predictor keeps of one view: as the bank, and its two inputs."""
    b, d = sizes.batch, sizes.output
    return 2 * (2 * 4 * d * b + 2 * 4 * d) + 2 * d * b + len(Parameter) * b


def loss_activations(sizes: Sizes) -> int:
    """Numbers that the loss keeps of a batch.

    Two views' embeddings for both tasks, a copy of those that L_eq compares, their norms, and the
    gradients that NT-Xent forms in the forward pass: those of the candidates for all processes.
    """
    b, _, _, d, processes = sizes
    rows = (2 + 4) * b  # of L_inv and of L_eq
    return 2 * TASKS * b * d + 4 * b * d + rows * (2 + (1 + processes) * d)


def head_activations(sizes: Sizes) -> int:
    """Numbers that head and loss keep of a batch until the backward pass."""
    of_head = VIEWS * expert_activations(sizes) + PREDICTED * predictor_activations(sizes)
    return of_head + loss_activations(sizes)


def gathered_numbers(sizes: Sizes) -> int:
    """What a process receives of the others for the loss; its backward pass sends as much.

    Both sides of B invariant and 2 B equivariant pairs.
    """
    return (sizes.processes - 1) * (2 + 4) * sizes.batch * sizes.output


def norm_channels(sizes: Sizes) -> int:
    """Channels of the head's batch norms, each as often as it is passed in a step."""
    return VIEWS * 2 * sizes.experts * sizes.width + PREDICTED * 2 * 4 * sizes.output
