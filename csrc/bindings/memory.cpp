#include <memory>
#include <new>

#include "arrays.hpp"
#include "torch_sla/memory_pool.hpp"

using namespace torch_sla_bindings;

void bind_memory(py::module_& m) {
  using torch_sla::MemoryPool;
  m.doc() = "Memory of past factors and gradients, kept for the next ones.";
  m.def("keep_at_most", [](std::size_t bytes) { MemoryPool::shared().set_limit(bytes); }, py::arg("bytes"));
  m.def("kept_bytes", [] { return MemoryPool::shared().kept(); });
  m.def("release", [] { MemoryPool::shared().trim(0); });
  // Bytes without content; their memory goes back to the pool with the last who looks at them.
  m.def(
      "empty",
      [](std::size_t bytes) {
        using Block = std::pair<void*, std::size_t>;
        auto block = std::make_unique<Block>(nullptr, bytes);
        block->first = MemoryPool::shared().take(block->second);
        if (!block->first) throw std::bad_alloc();
        const auto* at = static_cast<const std::uint8_t*>(block->first);
        const py::capsule owner(block.release(), [](void* held) {
          const std::unique_ptr<Block> given(static_cast<Block*>(held));
          MemoryPool::shared().give(given->first, given->second);
        });
        return Array<std::uint8_t>(static_cast<py::ssize_t>(bytes), at, owner);
      },
      py::arg("bytes"));
}
