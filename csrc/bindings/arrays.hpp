// Checked views of NumPy arrays. An argument must already have the dtype and be C-contiguous:
// nothing is converted or copied on the way in (every array argument is bound with noconvert).
#pragma once

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <complex>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "released.hpp"

namespace torch_sla_bindings {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// A bound array argument that refuses conversion.
inline py::arg array_arg(const char* name) {
  py::arg argument(name);
  argument.noconvert();
  return argument;
}

template <class T>
void expect_size(const Array<T>& array, std::int64_t size, const char* name) {
  if (array.size() != size)
    throw std::invalid_argument(std::string("`") + name + "` must hold " + std::to_string(size) +
                                " elements, got " + std::to_string(array.size()));
}

inline void check_slots(const Array<std::int32_t>& array, std::int64_t size, std::int64_t least, std::int64_t end,
                        const char* name) {
  expect_size(array, size, name);
  for (std::int64_t e = 0; e < size; ++e)
    if (array.data()[e] < least || array.data()[e] >= end)
      throw std::invalid_argument(std::string("`") + name + "` has an entry out of range");
}

// Calls f(Value()) for every value type the kernels know. Overloads are tried in this order, so the
// common ones come first.
template <class F>
void for_each_value(F&& f) {
  f(double());
  f(float());
  f(std::complex<double>());
  f(std::complex<float>());
}

// Calls f(Index()) for both index types.
template <class F>
void for_each_index(F&& f) {
  f(std::int32_t());
  f(std::int64_t());
}

}  // namespace torch_sla_bindings
