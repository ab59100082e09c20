// Memory for factors and fronts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace torch_sla {

// Uninitialised, 64-byte aligned memory; large blocks ask for huge pages, which makes first touches
// several times cheaper.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t entries) : entries_(entries) {
    if (entries == 0) return;
    constexpr std::size_t huge = std::size_t{1} << 21;
    std::size_t bytes = static_cast<std::size_t>(entries) * sizeof(T);
    const std::size_t alignment = bytes >= 4 * huge ? huge : 64;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    T* made = static_cast<T*>(allocate(alignment, bytes));
    if (!made) throw std::bad_alloc();
    memory_.reset(made, Free());
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == huge) madvise(memory_.get(), bytes, MADV_HUGEPAGE);
#endif
  }
  // Part of another buffer, which lives as long as any of its parts.
  Buffer(const Buffer& whole, std::int64_t offset, std::int64_t entries)
      : memory_(whole.memory_, whole.data() + offset), entries_(entries) {}

  T* data() const { return memory_.get(); }
  std::int64_t size() const { return entries_; }

 private:
#if defined(_MSC_VER)
  static void* allocate(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }
  struct Free {
    void operator()(T* p) const { _aligned_free(p); }
  };
#else
  static void* allocate(std::size_t alignment, std::size_t bytes) { return std::aligned_alloc(alignment, bytes); }
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
#endif
  std::shared_ptr<T> memory_;
  std::int64_t entries_ = 0;
};

}  // namespace torch_sla
