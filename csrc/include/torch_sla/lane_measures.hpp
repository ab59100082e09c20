// What is measured of many matrices and their solutions, a matrix in each lane of a register.
#pragma once

#include <cstdint>

#include "lane_products.hpp"

namespace torch_sla {
namespace lanes {

using dense::Size;

// Largest |x| and largest backward error |b - A x| / (|A| |x| + |b|) in the maximum norm, for `x` and `b`
// in the order of A, [n] of packs; not finite where x is not.
template <class T, int Bytes>
TORCH_SLA_INLINE void judge_body(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* values,
                                 const T* x, const T* b, T* growth, T* error) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  const P a{const_cast<T*>(values)}, y{const_cast<T*>(x)}, given{const_cast<T*>(b)};
  Vec norm{}, size{}, left{}, load{}, spoilt{};
  for (std::int64_t i = 0; i < n; ++i) {
    Vec r = given[i], sum{};
    const Vec z = y[i] < T(0) ? -y[i] : y[i], c = r < T(0) ? -r : r;
    for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
      const Vec v = a[e];
      r -= v * y[column[e]];
      sum += v < T(0) ? -v : v;
    }
    r = r < T(0) ? -r : r;
    norm = sum > norm ? sum : norm;
    size = z > size ? z : size;
    left = r > left ? r : left;
    load = c > load ? c : load;
    spoilt += T(0) * z;
  }
  P{growth}[0] = size + spoilt;
  P{error}[0] = left / (norm * size + load) + spoilt;
}

// Measures of interleaved values: the largest sum of |a| of a row and of a column, and how far the largest
// entries of rows, and of columns, lie apart (0 where one has none): `out` [4] of packs. room [2 n] of packs.
template <class T, int Bytes>
TORCH_SLA_INLINE void measure_body(std::int64_t n, const std::int32_t* start, const std::int32_t* column,
                                   const T* values, T* room, T* out) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  const P a{const_cast<T*>(values)}, sums{room}, tops = sums + n, result{out};
  const Vec huge = Vec{} + std::numeric_limits<T>::max();
  for (std::int64_t j = 0; j < 2 * n; ++j) sums[j] = Vec{};
  Vec rows{}, columns{}, high{}, low = huge;
  for (std::int64_t i = 0; i < n; ++i) {
    Vec sum{}, top{};
    for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
      const Vec v = a[e], z = v < T(0) ? -v : v;
      const Vec seen = tops[column[e]];
      sum += z;
      top = z > top ? z : top;
      sums[column[e]] += z;
      tops[column[e]] = z > seen ? z : seen;
    }
    rows = sum > rows ? sum : rows;
    high = top > high ? top : high;
    low = top < low ? top : low;
  }
  const Vec none{};
  result[2] = low > none ? high / low : none;
  high = none, low = huge;
  for (std::int64_t j = 0; j < n; ++j) {
    const Vec sum = sums[j], top = tops[j];
    columns = sum > columns ? sum : columns;
    high = top > high ? top : high;
    low = top < low ? top : low;
  }
  result[0] = rows;
  result[1] = columns;
  result[3] = low > none ? high / low : none;
}

// Of what C right-hand sides leave over, b - op(A) x for x and b in the order of A, [n][C] of packs: the sum of its
// squares and its largest entry, the largest entry of x, the largest entry of b and the sum of its squares:
// `out` [5][C] of packs. b is met last: an x so huge that its products swallow b, and cancel, leaves b
// over and not zero. room [n][C] of packs.
template <class T, int Bytes, int C>
TORCH_SLA_INLINE void residual_body(std::int64_t n, const std::int32_t* start, const std::int32_t* column,
                                    const T* values, bool transposed, const T* x, const T* b, T* room, T* out) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  const P a{const_cast<T*>(values)}, y{const_cast<T*>(x)}, given{const_cast<T*>(b)}, sums{room}, result{out};
  Vec squares[C] = {}, left[C] = {}, size[C] = {}, load[C] = {}, loads[C] = {};
  const auto measure = [&](std::int64_t i, const Vec* product) {
    for (int k = 0; k < C; ++k) {
      const Vec c = given[i * C + k], z = y[i * C + k], r = c - product[k];
      const Vec rs = r < T(0) ? -r : r, zs = z < T(0) ? -z : z, cs = c < T(0) ? -c : c;
      squares[k] += r * r;
      loads[k] += c * c;
      left[k] = rs > left[k] ? rs : left[k];
      size[k] = zs > size[k] ? zs : size[k];
      load[k] = cs > load[k] ? cs : load[k];
    }
  };
  if (transposed) {
    for (std::int64_t j = 0; j < n * C; ++j) sums[j] = Vec{};
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
        const Vec v = a[e];
        const auto to = sums + static_cast<std::int64_t>(column[e]) * C;
        for (int k = 0; k < C; ++k) to[k] += v * y[i * C + k];
      }
    for (std::int64_t i = 0; i < n; ++i) {
      Vec product[C];
      for (int k = 0; k < C; ++k) product[k] = sums[i * C + k];
      measure(i, product);
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      Vec product[C] = {};
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
        const Vec v = a[e];
        const auto from = y + static_cast<std::int64_t>(column[e]) * C;
        for (int k = 0; k < C; ++k) product[k] += v * from[k];
      }
      measure(i, product);
    }
  }
  for (int k = 0; k < C; ++k) {
    result[k] = squares[k];
    result[C + k] = left[k] + T(0) * squares[k];  // not finite where the sum is not
    result[2 * C + k] = size[k];
    result[3 * C + k] = load[k];
    result[4 * C + k] = loads[k];
  }
}

}  // namespace lanes
}  // namespace torch_sla
