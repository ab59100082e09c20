// Loads of laws that are products of tables: a law at a point is the product of one row of each of a few tables, a
// number for every member of a batch, and a load sums such products. Nothing of the size of all points times members
// is ever written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cholesky_kernels.hpp"
#include "parallel.hpp"

namespace torch_sla {
namespace tables {

constexpr int kMost = 3;  // tables of one product

// y[c] += sum over t of a[t] at[t][0][c] .. at[t][K-1][c], from column c on while a block of V registers fits. Where
// there is a `start`, it stands in the place of what y held.
template <class T, int Bytes, int V, int K>
TORCH_SLA_INLINE std::int64_t blocks(std::int64_t c, std::int64_t count, const T* a, const T* const* at,
                                     std::int64_t members, const T* start, T* y) {
#ifdef TORCH_SLA_VECTORS
  using Vec = typename dense::Lanes<T, Bytes>::type;
#else
  using Vec = T;
#endif
  constexpr int L = Bytes / static_cast<int>(sizeof(T));
  for (; c + V * L <= members; c += V * L) {
    Vec sum[V];
    for (int v = 0; v < V; ++v) sum[v] = start ? Vec{} + *start : *reinterpret_cast<const Vec*>(y + c + v * L);
    for (std::int64_t t = 0; t < count; ++t)
      for (int v = 0; v < V; ++v) {
        Vec x = *reinterpret_cast<const Vec*>(at[t * K] + c + v * L);
        for (int k = 1; k < K; ++k) x *= *reinterpret_cast<const Vec*>(at[t * K + k] + c + v * L);
        sum[v] += x * a[t];
      }
    for (int v = 0; v < V; ++v) *reinterpret_cast<Vec*>(y + c + v * L) = sum[v];
  }
  return c;
}

template <class T, int Bytes, int K>
TORCH_SLA_INLINE void row_body(std::int64_t count, const T* a, const T* const* at, std::int64_t members,
                               const T* start, T* y) {
  constexpr int One = static_cast<int>(sizeof(T)), Short = Bytes > 16 ? 16 : Bytes;
  std::int64_t c = blocks<T, Bytes, 4, K>(0, count, a, at, members, start, y);
  c = blocks<T, Bytes, 1, K>(c, count, a, at, members, start, y);
  c = blocks<T, Short, 1, K>(c, count, a, at, members, start, y);
  blocks<T, One, 1, K>(c, count, a, at, members, start, y);
}

template <class T>
using Row = void (*)(std::int64_t, const T*, const T* const*, std::int64_t, const T*, T*);

#define TORCH_SLA_TABLES(NAME, ATTRIBUTE, BYTES)                                                                   \
  template <class T, int K>                                                                                        \
  ATTRIBUTE void row_##NAME(std::int64_t count, const T* a, const T* const* at, std::int64_t members,              \
                            const T* start, T* y) {                                                                \
    row_body<T, BYTES, K>(count, a, at, members, start, y);                                                        \
  }
TORCH_SLA_TABLES(plain, , static_cast<int>(sizeof(T)))
#ifdef TORCH_SLA_VECTORS
TORCH_SLA_TABLES(vector16, , 16)
#endif
#ifdef TORCH_SLA_X86_DISPATCH
TORCH_SLA_TABLES(avx2, TORCH_SLA_AVX2, 32)
TORCH_SLA_TABLES(avx512, TORCH_SLA_AVX512, 64)
#endif
#undef TORCH_SLA_TABLES

template <class T, int K>
Row<T> row_kernel() {
#ifdef TORCH_SLA_X86_DISPATCH
  if (dense::instruction_set() == 2) return row_avx512<T, K>;
  if (dense::instruction_set() == 1) return row_avx2<T, K>;
#endif
#ifdef TORCH_SLA_VECTORS
  return row_vector16<T, K>;
#else
  return row_plain<T, K>;
#endif
}

template <class T>
Row<T> row_kernel(int count) {
  return count == 1 ? row_kernel<T, 1>() : count == 2 ? row_kernel<T, 2>() : row_kernel<T, 3>();
}

// One law: tables [levels, members] and the level of each point in them; a weight for each point, or none.
template <class T>
struct Product {
  int count;
  const T* table[kMost];
  const std::int32_t* level[kMost];
  const T* weight;
};

// y[i] += sum over the entries e of row i of values[slots[e]] times the product at the point of e. A column of the
// matrix is a point and a component of the law there, `column = point * components + component`; the entries of other
// components are passed over. y [n_rows, members]; where there is a `start` [n_rows], each row begins with its number.
template <class Slot, class T>
void add_products(const std::int32_t* crow, const std::int32_t* ccol, const Slot* slots, const T* values,
                  const Product<T>& law, int component, int components, std::int64_t n_rows, std::int64_t members,
                  const T* start, T* y, int threads) {
  const Row<T> row = row_kernel<T>(law.count);
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < n_rows; ++i) longest = std::max<std::int64_t>(longest, crow[i + 1] - crow[i]);
  parallel_for_balanced(crow, n_rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<T> a(longest);
    std::vector<const T*> at(longest * law.count);
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t found = 0;
      for (std::int64_t e = crow[i]; e < crow[i + 1]; ++e) {
        std::int32_t point = ccol[e];
        if (components > 1) {
          point /= components;
          if (ccol[e] - point * components != component) continue;
        }
        const T value = values[slots[e]];
        for (int k = 0; k < law.count; ++k) at[found * law.count + k] = law.table[k] + law.level[k][point] * members;
        a[found++] = law.weight ? value * law.weight[point] : value;
      }
      row(found, a.data(), at.data(), members, start ? start + i : nullptr, y + i * members);
    }
  });
}

}  // namespace tables
}  // namespace torch_sla
