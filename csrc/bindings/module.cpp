// The one extension module. Each bindings/NAME.cpp defines bind_NAME and becomes the submodule
// NAME; the build lists them in submodules.inc, so adding a file is all there is to do.
#include <pybind11/pybind11.h>

#include "released.hpp"

#define TORCH_SLA_SUBMODULE(name) void bind_##name(pybind11::module_& m);
#include "submodules.inc"
#undef TORCH_SLA_SUBMODULE

PYBIND11_MODULE(_ext, m) {
  m.doc() = "Compiled kernels of torch_sla.";
  torch_sla_bindings::main_thread() =
      pybind11::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
#define TORCH_SLA_SUBMODULE(name)        \
  {                                      \
    auto sub = m.def_submodule(#name);   \
    bind_##name(sub);                    \
  }
#include "submodules.inc"
#undef TORCH_SLA_SUBMODULE
}
