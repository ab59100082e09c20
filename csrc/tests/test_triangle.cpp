// Solving with the trapezoid of one front, against the definition.
#include <complex>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "torch_sla/triangle_kernels.hpp"

using namespace torch_sla;
using dense::Size;

template <class T>
T number(std::mt19937& random) {
  const auto one = [&] { return static_cast<Real<T>>(static_cast<double>(random() % 2001) / 4000 - 0.25); };
  if constexpr (is_complex<T>) {
    const Real<T> re = one();
    return T(re, one());
  } else {
    return one();
  }
}

// What lies above the diagonal is nobody's business: here it is not a number.
template <class T>
void check_front(Size rows, Size columns, bool unit, bool conj) {
  std::mt19937 random(static_cast<unsigned>(rows * 100 + columns));
  std::vector<T> panel(rows * columns, T(std::numeric_limits<Real<T>>::quiet_NaN()));
  for (Size j = 0; j < columns; ++j)
    for (Size i = j; i < rows; ++i)
      if (i > j)
        panel[j * rows + i] = number<T>(random) / static_cast<Real<T>>(rows);
      else if (!unit)
        panel[j * rows + i] = T(2) + T(real_part(number<T>(random)));
  const auto l = [&](Size i, Size j) {
    return i == j && unit ? T(1) : conj ? conjugate(panel[j * rows + i]) : panel[j * rows + i];
  };
  std::vector<T> given(rows);
  for (T& value : given) value = number<T>(random);
  const auto& own = dense::triangle_kernels<T>();
  const Real<T> limit = 100 * std::numeric_limits<Real<T>>::epsilon();

  std::vector<T> x = given;
  std::fill(x.begin() + columns, x.end(), T(0));
  (conj ? own.descend_conjugate : own.descend)(rows, columns, panel.data(), unit, x.data());
  for (Size i = 0; i < rows; ++i) {
    T left = i < columns ? given[i] : T(0);
    for (Size j = 0; j < columns && j <= i; ++j) left -= product(l(i, j), x[j]);
    CHECK(magnitude(i < columns ? left : left - x[i]) < limit);
  }
  if (conj) return;
  x = given;
  own.ascend(rows, columns, panel.data(), unit, x.data());
  for (Size j = 0; j < columns; ++j) {
    T left = given[j];
    for (Size i = j; i < rows; ++i) left -= product(l(i, j), x[i]);
    CHECK(magnitude(left) < limit);
  }
  for (Size i = columns; i < rows; ++i) CHECK(x[i] == given[i]);
}

template <class T>
void check_type() {
  for (Size columns = 1; columns <= 41; columns += columns < 22 ? 1 : 5)
    for (const Size below : {0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 18, 31})
      for (const bool unit : {false, true})
        for (const bool conj : {false, true}) check_front<T>(columns + below, columns, unit, conj);
}

int main() {
  check_type<double>();
  check_type<float>();
  check_type<std::complex<double>>();
  check_type<std::complex<float>>();
  return failures();
}
