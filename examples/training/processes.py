"""How processes that train together part."""

import gc

from torch import distributed


def leave_group() -> None:
    """Join the threads of the process group, if there is one, while Python is still whole.

    A gloo thread that lets go of its last work while the interpreter ends wants the GIL, is ended
    for that, and aborts the process after all is done (PyTorch 2.14). Destroying the group joins
    its threads only once nothing refers to it, as a DistributedDataParallel in a cycle does.
    """
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()
