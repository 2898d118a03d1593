"""`online_pass`, called by other kernels at its address: compiled once, and with the same sums."""

from functools import cache

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sklearn_recft.kernels._factorization import online_pass

_vector, _matrix = types.float32[::1], types.float32[:, ::1]
# Types of the arguments of `online_pass`, wherever it is called.
_TYPES = (
    types.int32[::1],
    types.int32[::1],
    _vector,
    _vector,
    _matrix,
    _vector,
    types.float64[::1],
    _vector,
    types.int64,
    types.int64,
    types.boolean,
    _vector,
    _vector,
    _vector,
    _matrix,
    _matrix,
    _vector,
    _vector,
    _vector,
)


@cache
def address_of_pass():
    """Return the address of the compiled `online_pass`, compiled now if it was not."""
    online_pass.compile(_TYPES)
    compiled = online_pass.overloads[_TYPES]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


@intrinsic
def call_pass(_, address, arguments):
    """Call `online_pass` at an address.

    A call by name would compile another copy into this kernel. Its sums may be in another order,
    and differ in the last digit from those of `online_pass` elsewhere.
    """

    def generate(context, builder, signature, values):
        convention = context.call_conv
        kind = convention.get_function_type(types.none, _TYPES).as_pointer()
        function = builder.inttoptr(values[0], kind)
        own = cgutils.unpack_tuple(builder, values[1], len(_TYPES))
        status, _ = convention.call_function(builder, function, types.none, _TYPES, own)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(types.int64, types.Tuple(_TYPES)), generate
