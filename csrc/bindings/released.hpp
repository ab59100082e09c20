// The state in which kernels run: other Python threads go on, and signals arrive.
#pragma once

#include <pybind11/pybind11.h>

#include "torch_sla/interrupt.hpp"

namespace torch_sla_bindings {

namespace py = pybind11;

// The thread that Python runs signal handlers on; set when the module is loaded.
inline unsigned long& main_thread() {
  static unsigned long ident = 0;
  return ident;
}

// Releases the GIL. On the main thread the kernel takes it back some times a second to let signal handlers run, and
// ends when one raises: Ctrl-C does not wait for a factorisation. Not for what changes an object in place.
class Released {
 public:
  Released() : interrupt_(PyThread_get_thread_ident() == main_thread() ? &handle_signals : nullptr) {}

 private:
  static void handle_signals() {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

  py::gil_scoped_release release_;
  torch_sla::Interrupt interrupt_;
};

}  // namespace torch_sla_bindings
