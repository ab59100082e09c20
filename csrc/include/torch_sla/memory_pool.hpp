// Large blocks of memory that have been touched before, kept for whoever needs one as large.
//
// The first touch of a page costs more than most arithmetic on it, and an allocator gives large blocks back to the
// system at once. What is kept here is offered to the kernel (MADV_FREE), which takes the pages when it
// runs short and otherwise leaves them in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace torch_sla {

namespace detail {

// Tells the address sanitizer whose memory it is: what is kept belongs to nobody.
inline void kept_memory([[maybe_unused]] const void* at, [[maybe_unused]] std::size_t bytes,
                        [[maybe_unused]] bool kept) {
#if defined(__SANITIZE_ADDRESS__)
  if (kept) __asan_poison_memory_region(at, bytes);
  else __asan_unpoison_memory_region(at, bytes);
#endif
}

}  // namespace detail

class MemoryPool {
 public:
  static constexpr std::size_t kHuge = std::size_t{1} << 21;
  static constexpr std::size_t kLarge = 2 * kHuge;  // from so many bytes on, blocks are pooled

  // The one of this process. It is never taken down: factors may outlive everything else.
  static MemoryPool& shared() {
    static MemoryPool& pool = *made();
    return pool;
  }

  // What a block has that is asked for with so many bytes and must not have more.
  static std::size_t rounded(std::size_t bytes) {
    const std::size_t alignment = bytes >= kLarge ? kHuge : 64;
    return (bytes + alignment - 1) / alignment * alignment;
  }

  // Memory of `bytes`; blocks from kLarge on begin at a huge page and have at most a share of 1 / `spare` more than
  // asked for, or nothing where that is 0. nullptr where there is none. `bytes` becomes what the block has, to be told
  // when it is given back.
  void* take(std::size_t& bytes, std::size_t spare = 8) {
    const bool pooled = bytes >= kLarge;
    bytes = rounded(bytes);
    if (!pooled) return allocate(64, bytes);
    const std::size_t most = bytes + (spare ? bytes / spare : 0);
    {
      const std::lock_guard<std::mutex> lock(guard_);
      std::size_t best = blocks_.size();
      for (std::size_t k = 0; k < blocks_.size(); ++k)
        if (blocks_[k].bytes >= bytes && blocks_[k].bytes <= most &&
            (best == blocks_.size() || blocks_[k].bytes < blocks_[best].bytes))
          best = k;
      if (best < blocks_.size()) {
        const Block found = blocks_[best];
        blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(best));
        kept_ -= found.bytes;
        detail::kept_memory(found.at, found.bytes, false);
        bytes = found.bytes;
        return found.at;
      }
    }
    void* fresh = allocate(kHuge, bytes);
    if (!fresh) {  // what is kept may be what is missing
      trim(0);
      fresh = allocate(kHuge, bytes);
    }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (fresh) madvise(fresh, bytes, MADV_HUGEPAGE);
#endif
    return fresh;
  }

  // Hands back what `take` gave; the oldest blocks go where the bound is passed.
  void give(void* at, std::size_t bytes) noexcept {
    if (bytes < kLarge) return release(at);
    {
      const std::lock_guard<std::mutex> lock(guard_);
      if (bytes <= limit_ && blocks_.size() < blocks_.capacity()) {
#if defined(__linux__) && defined(MADV_FREE)
        madvise(at, bytes, MADV_FREE);
#endif
        detail::kept_memory(at, bytes, true);
        blocks_.push_back({at, bytes});
        kept_ += bytes;
        at = nullptr;
      }
      shrink(limit_);
    }
    if (at) release(at);
  }

  void set_limit(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(guard_);
    limit_ = bytes;
    shrink(limit_);
  }

  // Gives the oldest blocks back to the system until no more than `bytes` are kept.
  void trim(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(guard_);
    shrink(bytes);
  }

  std::size_t kept() const {
    const std::lock_guard<std::mutex> lock(guard_);
    return kept_;
  }

 private:
  struct Block {
    void* at;
    std::size_t bytes;
  };

  MemoryPool() { blocks_.reserve(256); }

  static MemoryPool* made() {
    auto* pool = new MemoryPool();
#if !defined(_WIN32)
    // A child starts with the lock free, whatever other threads of its parent were doing.
    pthread_atfork([] { shared().guard_.lock(); }, [] { shared().guard_.unlock(); },
                   [] { shared().guard_.unlock(); });
#endif
    return pool;
  }

  void shrink(std::size_t bytes) {
    std::size_t gone = 0;
    while (kept_ > bytes) {
      kept_ -= blocks_[gone].bytes;
      detail::kept_memory(blocks_[gone].at, blocks_[gone].bytes, false);
      release(blocks_[gone++].at);
    }
    blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(gone));
  }

#if defined(_MSC_VER)
  static void* allocate(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }
  static void release(void* at) { _aligned_free(at); }
#else
  static void* allocate(std::size_t alignment, std::size_t bytes) { return std::aligned_alloc(alignment, bytes); }
  static void release(void* at) { std::free(at); }
#endif

  mutable std::mutex guard_;
  std::vector<Block> blocks_;  // oldest first
  std::size_t kept_ = 0, limit_ = 0;
};

}  // namespace torch_sla
