// Memory for factors and fronts.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "memory_pool.hpp"

namespace torch_sla {

// Uninitialised, 64-byte aligned memory; large blocks lie in huge pages, which makes first touches several
// times cheaper, and have often been touched before.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t entries) : entries_(entries) {
    if (entries == 0) return;
    std::size_t bytes = static_cast<std::size_t>(entries) * sizeof(T);
    T* made = static_cast<T*>(MemoryPool::shared().take(bytes));
    if (!made) throw std::bad_alloc();
    memory_.reset(made, [bytes](T* p) { MemoryPool::shared().give(p, bytes); });
  }
  // Part of another buffer, which lives as long as any of its parts.
  Buffer(const Buffer& whole, std::int64_t offset, std::int64_t entries)
      : memory_(whole.memory_, whole.data() + offset), entries_(entries) {}

  T* data() const { return memory_.get(); }
  std::int64_t size() const { return entries_; }

 private:
  std::shared_ptr<T> memory_;
  std::int64_t entries_ = 0;
};

}  // namespace torch_sla
