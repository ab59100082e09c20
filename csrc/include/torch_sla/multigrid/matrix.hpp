// Block CSR storage of multigrid levels, and compile-time dispatch on the block size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../memory_pool.hpp"
#include "../parallel.hpp"
#include "lanes.hpp"

namespace torch_sla::multigrid {

// Storage that is not filled with zeros when it is sized. Large arrays come from the pool, where those of an
// earlier hierarchy or solve may lie, touched already.
template <class T>
struct UninitializedAllocator {
  using value_type = T;
  UninitializedAllocator() = default;
  template <class U>
  UninitializedAllocator(const UninitializedAllocator<U>&) {}

  T* allocate(std::size_t n) {
    std::size_t bytes = n ? n * sizeof(T) : 1;
    void* p = MemoryPool::shared().take(bytes, 0);
    if (!p) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) noexcept {
    MemoryPool::shared().give(p, MemoryPool::rounded(n ? n * sizeof(T) : 1));
  }
  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    if constexpr (sizeof...(Args) == 0) {
      ::new (static_cast<void*>(p)) U;
    } else {
      ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
    }
  }
  template <class U>
  bool operator==(const UninitializedAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const UninitializedAllocator<U>&) const { return false; }
};

template <class T>
using Buffer = std::vector<T, UninitializedAllocator<T>>;

template <class T>
std::size_t bytes_of(const Buffer<T>& buffer) {
  return buffer.capacity() * sizeof(T);
}

constexpr int kMaxBlock = 12;  // largest edge of a block, largest number of near-nullspace vectors

// Positions of the entries; shared by all matrices that differ in their numbers only.
template <class I>
struct Positions {
  Buffer<I> ptr, col;
};

// A matrix of br x bc blocks in CSR. The pattern is built in own_ptr and own_col and then shared, or
// borrowed from the caller; values, row-major inside a block, are always owned.
template <class V, class I>
struct BlockMatrix {
  I rows = 0, cols = 0;  // in blocks
  int br = 1, bc = 1;
  const I* ptr = nullptr;
  const I* col = nullptr;
  Buffer<I> own_ptr, own_col;
  std::shared_ptr<const Positions<I>> shared;
  Buffer<V> val;

  BlockMatrix() = default;
  BlockMatrix(BlockMatrix&&) = default;
  BlockMatrix& operator=(BlockMatrix&&) = default;
  BlockMatrix(const BlockMatrix&) = delete;
  BlockMatrix& operator=(const BlockMatrix&) = delete;

  std::int64_t nnz() const { return ptr ? static_cast<std::int64_t>(ptr[rows]) : 0; }
  std::int64_t block() const { return static_cast<std::int64_t>(br) * bc; }
  void adopt() {
    auto made = std::make_shared<Positions<I>>();
    made->ptr.swap(own_ptr);
    made->col.swap(own_col);
    ptr = made->ptr.data();
    col = made->col.data();
    shared = std::move(made);
  }
  // A matrix on the same pattern, without numbers.
  BlockMatrix skeleton() const {
    BlockMatrix out;
    out.rows = rows;
    out.cols = cols;
    out.br = br;
    out.bc = bc;
    out.ptr = ptr;
    out.col = col;
    out.shared = shared;
    return out;
  }
  std::size_t bytes() const {
    return (shared ? bytes_of(shared->ptr) + bytes_of(shared->col) : 0) + bytes_of(val);
  }
};

template <int N>
using Size = std::integral_constant<int, N>;

// Calls f(Size<B>) with the block size known to the compiler where it is a usual one; B = 0 means
// "read it at run time".
template <class F>
decltype(auto) with_block(int b, F&& f) {
  switch (b) {
    case 1: return f(Size<1>{});
    case 2: return f(Size<2>{});
    case 3: return f(Size<3>{});
    case 6: return f(Size<6>{});
    default: return f(Size<0>{});
  }
}

// The same for the two edges of a transfer block.
template <class F>
decltype(auto) with_blocks(int b, int k, F&& f) {
  if (b == 1 && k == 1) return f(Size<1>{}, Size<1>{});
  if (b == 2 && k == 2) return f(Size<2>{}, Size<2>{});
  if (b == 3 && k == 3) return f(Size<3>{}, Size<3>{});
  if (b == 2 && k == 3) return f(Size<2>{}, Size<3>{});
  if (b == 3 && k == 6) return f(Size<3>{}, Size<6>{});
  if (b == 6 && k == 6) return f(Size<6>{}, Size<6>{});
  return f(Size<0>{}, Size<0>{});
}

constexpr int capacity(int b) { return b ? b : kMaxBlock; }

// Threads for a kernel that moves `items` matrix entries: below this, starting them costs more.
constexpr std::int64_t kSerialWork = 300000;
inline int threads_for(std::int64_t items, int threads) { return items < kSerialWork ? 1 : threads; }

// Sum of one partial result per worker, in worker order.
template <class S = double, class F>
S parallel_sum(std::int64_t n, int threads, F&& f) {
  std::vector<S> partial(worker_count(n, threads), S(0));
  parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    partial[worker] = f(begin, end);
  });
  S total = S(0);
  for (const S& p : partial) total += p;
  return total;
}

// B = A^T, rows in increasing order of the columns of A.
template <class V, class I>
BlockMatrix<V, I> transpose(const BlockMatrix<V, I>& A) {
  BlockMatrix<V, I> T;
  T.rows = A.cols;
  T.cols = A.rows;
  T.br = A.bc;
  T.bc = A.br;
  const std::int64_t nnz = A.nnz(), block = A.block();
  T.own_ptr.assign(static_cast<std::size_t>(T.rows) + 2, 0);
  T.own_col.resize(nnz);
  T.val.resize(nnz * block);
  I* count = T.own_ptr.data() + 2;
  for (std::int64_t s = 0; s < nnz; ++s)
    ++count[A.col[s]];
  for (I i = 1; i <= T.rows; ++i) T.own_ptr[i + 1] += T.own_ptr[i];
  I* cursor = T.own_ptr.data() + 1;
  for (I i = 0; i < A.rows; ++i) {
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      const std::int64_t t = cursor[A.col[s]]++;
      T.own_col[t] = i;
      const V* from = A.val.data() + s * block;
      V* to = T.val.data() + t * block;
      if (block == 1) {
        *to = *from;
      } else {
        for (int r = 0; r < A.br; ++r)
          for (int c = 0; c < A.bc; ++c) to[c * A.br + r] = from[r * A.bc + c];
      }
    }
  }
  T.own_ptr.resize(static_cast<std::size_t>(T.rows) + 1);
  T.adopt();
  return T;
}

}  // namespace torch_sla::multigrid
