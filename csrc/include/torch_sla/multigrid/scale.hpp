// How large the values of a matrix are, and the power of two that brings them into the middle of a range.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../parallel.hpp"

namespace torch_sla::multigrid {

// Largest size of the values that it is shown, in lanes that do not wait for each other; NaN where one is not finite.
template <class T>
class Extent {
 public:
  void take(const T* values, std::int64_t count) {
    std::int64_t e = 0;
    for (; e + kWidth <= count; e += kWidth)
      for (int l = 0; l < kWidth; ++l) look(values[e + l], l);
    for (; e < count; ++e) look(values[e], 0);
  }
  double size() const {
    T largest = 0, nothing = 0;
    for (int l = 0; l < kWidth; ++l) {
      largest = std::max(largest, most_[l]);
      nothing += nothing_[l];
    }
    return nothing == T(0) ? double(largest) : std::numeric_limits<double>::quiet_NaN();
  }

 private:
  void look(T value, int lane) {
    const T size = std::abs(value);
    most_[lane] = size > most_[lane] ? size : most_[lane];
    nothing_[lane] += value * T(0);  // NaN as soon as one is not finite
  }
  static constexpr int kWidth = 64 / int(sizeof(T));
  T most_[kWidth] = {}, nothing_[kWidth] = {};
};

// The largest of some sizes; throws where one is not finite.
inline double largest_of(const std::vector<double>& sizes) {
  double largest = 0.0;
  for (const double size : sizes) {
    if (!std::isfinite(size)) throw std::overflow_error("the matrix has entries that are not finite");
    largest = std::max(largest, size);
  }
  return largest;
}

// The power of two that brings a size to about one.
inline double power_for(double size) {
  int exponent = 0;
  if (size > 0.0) std::frexp(size, &exponent);
  return std::ldexp(1.0, -exponent);
}

// The power of two that brings the largest of `count` values to about one; throws where one is not finite.
template <class T>
double power_scale(const T* values, std::int64_t count, int threads) {
  std::vector<double> most(worker_count(count, threads), 0.0);
  parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    Extent<T> found;
    found.take(values + begin, end - begin);
    most[worker] = found.size();
  });
  return power_for(largest_of(most));
}

}  // namespace torch_sla::multigrid
