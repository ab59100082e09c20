#include <pybind11/pybind11.h>

#include "torch_sla/memory_pool.hpp"

namespace py = pybind11;

void bind_memory(py::module_& m) {
  using torch_sla::MemoryPool;
  m.doc() = "Memory of past factors, kept for the next ones.";
  m.def("keep_at_most", [](std::size_t bytes) { MemoryPool::shared().set_limit(bytes); }, py::arg("bytes"));
  m.def("kept_bytes", [] { return MemoryPool::shared().kept(); });
  m.def("release", [] { MemoryPool::shared().trim(0); });
}
