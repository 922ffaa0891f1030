"""Named tuples that are easily taken for one tensor, and what they say then."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

_ARITHMETIC = (
    *("sub", "rsub", "mul", "rmul", "matmul", "rmatmul", "truediv", "rtruediv", "floordiv"),
    *("rfloordiv", "mod", "rmod", "pow", "rpow", "neg", "pos", "abs", "round", "float", "int"),
)
_COMPARISONS = ("lt", "le", "gt", "ge")


def not_a_tensor(meant: str) -> Callable[[type[T]], type[T]]:
    """Let a named tuple say which part was probably meant, where it is taken for a tensor.

    Raised at a tensor's attributes (``terms.backward()``), in arithmetic, which would end in an
    error of Python's or, worse, in the tuple twice (``2 * terms``), and in functions of torch. It
    stays a tuple: its parts, joining it to a plain tuple, comparing it with a tuple, copies,
    pickles and PyTorch's handling of named tuples are as they were. Type checkers do not see this:
    they would take any attribute for granted.

    Args:
        meant: What the parts are for.
    """

    def decorate(cls: type[T]) -> type[T]:
        fields = ", ".join(f".{name}" for name in cls._fields)  # type: ignore[attr-defined]
        what = f"{cls.__name__} is a tuple of {fields}"

        def refuse(attempt: str) -> NoReturn:
            raise TypeError(f"{what}, and {attempt}: {meant}")

        def get_attribute(self: Any, name: str) -> NoReturn:
            raise AttributeError(f"{what}, and has no {name!r}: {meant}", name=name, obj=self)

        def in_torch(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            refuse(f"torch's {getattr(func, '__name__', func)} takes tensors")

        def arithmetic(self: Any, *other: Any) -> NoReturn:
            refuse("not a number to calculate with")

        def add(self: Any, other: Any) -> Any:
            return tuple(self) + other if type(other) is tuple else arithmetic(self)

        def radd(self: Any, other: Any) -> Any:
            return other + tuple(self) if type(other) is tuple else arithmetic(self)

        def formatted(self: Any, spec: str) -> str:
            return format(str(self), spec) if not spec else arithmetic(self)

        def comparison(name: str) -> Callable[[Any, Any], Any]:
            compare = getattr(tuple, name)
            return lambda self, o: compare(self, o) if isinstance(o, tuple) else arithmetic(self)

        methods: dict[str, Any] = {f"__{name}__": arithmetic for name in _ARITHMETIC}
        methods |= {f"__{name}__": comparison(f"__{name}__") for name in _COMPARISONS}
        methods |= {"__getattr__": get_attribute, "__add__": add, "__radd__": radd}
        methods |= {"__format__": formatted, "__torch_function__": classmethod(in_torch)}
        methods["__array_ufunc__"] = None  # or NumPy's numbers would calculate with each part
        for name, method in methods.items():
            setattr(cls, name, method)
        cls._meant = meant  # type: ignore[attr-defined]
        return cls

    return decorate
