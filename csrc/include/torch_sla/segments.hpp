// Segmented sums and their adjoint, the gather: every scatter of the library is one of these.
#pragma once

#include <algorithm>
#include <cstdint>

#include "torch_sla/parallel.hpp"

namespace torch_sla {

// y[b, t, :] = sum of x[b, order[p], :] over offsets[t] <= p < offsets[t + 1], in that order.
//   offsets [n_targets + 1], order [n_sources]; x [batch, n_sources, k]; y [batch, n_targets, k].
template <class Index, class T>
void segment_sum(const Index* offsets, const Index* order, const T* x, T* y, std::int64_t batch,
                 std::int64_t n_sources, std::int64_t n_targets, std::int64_t k, int threads) {
  parallel_for_balanced(offsets, n_targets, threads,
                        [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* source = x + b * n_sources * k;
      T* target = y + b * n_targets * k;
      for (std::int64_t t = begin; t < end; ++t) {
        const std::int64_t first = offsets[t], last = offsets[t + 1];
        if (k == 1) {
          T sum = T(0);
          for (std::int64_t p = first; p < last; ++p) sum += source[order[p]];
          target[t] = sum;
        } else {
          T* sum = target + t * k;
          std::fill(sum, sum + k, T(0));
          for (std::int64_t p = first; p < last; ++p) {
            const T* term = source + std::int64_t(order[p]) * k;
            for (std::int64_t c = 0; c < k; ++c) sum[c] += term[c];
          }
        }
      }
    }
  });
}

// x[b, j, :] = y[b, target[j], :].  y [batch, n_targets, k]; x [batch, n_sources, k].
template <class Index, class T>
void gather(const Index* target, const T* y, T* x, std::int64_t batch, std::int64_t n_sources,
            std::int64_t n_targets, std::int64_t k, int threads) {
  parallel_for(n_sources, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = 0; b < batch; ++b) {
      const T* source = y + b * n_targets * k;
      T* out = x + b * n_sources * k;
      if (k == 1)
        for (std::int64_t j = begin; j < end; ++j) out[j] = source[target[j]];
      else
        for (std::int64_t j = begin; j < end; ++j)
          std::copy_n(source + std::int64_t(target[j]) * k, k, out + j * k);
    }
  });
}

}  // namespace torch_sla
