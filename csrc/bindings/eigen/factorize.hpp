// How an analysis is made from a pattern, and a factor from an analysis.
#pragma once

#include <memory>

#include "../arrays.hpp"
#include "torch_sla/factor.hpp"

namespace torch_sla_bindings {

template <class Analysis, class Index>
void bind_analysis_from(py::class_<Analysis>& cls) {
  cls.def(py::init([](const Array<Index>& crow, const Array<Index>& ccol) {
            const std::int64_t n = crow.size() - 1;
            const Index *r = crow.data(), *c = ccol.data();
            expect_size(ccol, r[n], "ccol");
            const Released release;
            return std::make_unique<Analysis>(r, c, n);
          }),
          array_arg("crow"), array_arg("ccol"));
}

// Binds analysis.NAME(values) -> factor.
template <class Factor, class T, class Analysis>
void bind_factorize(py::class_<Analysis>& cls, const char* name) {
  cls.def(
      name,
      [](const Analysis& analysis, const Array<T>& values) {
        expect_size(values, analysis.slots, "values");
        const T* a = values.data();
        const Released release;
        return std::unique_ptr<torch_sla::DirectFactor<T>>(std::make_unique<Factor>(analysis, a));
      },
      array_arg("values"));
}

}  // namespace torch_sla_bindings
