#include <pybind11/pybind11.h>
void bind_sparse(pybind11::module_& m) { m.doc() = "Index and value kernels of sparse matrices."; }
