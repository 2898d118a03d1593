"""Sorting inside kernels: NumPy's sort takes longer to compile than the kernel around it."""

from sklearn_recft.kernels._compile import inlined


@inlined
def sort_part(values, start, stop):
    """Sort a part of an array of integers in place (Shell 1959)."""
    gap = stop - start
    while gap > 1:
        gap = max(1, (5 * gap - 1) // 11)  # the steps of Gonnet and Baeza-Yates (1991)
        for i in range(start + gap, stop):
            value, j = values[i], i - gap
            while j >= start and values[j] > value:
                values[j + gap] = values[j]
                j -= gap
            values[j + gap] = value
