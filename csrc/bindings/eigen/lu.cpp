#include "torch_sla/eigen_lu.hpp"

#include "factorize.hpp"

namespace torch_sla_bindings {

void bind_lu(py::module_& m) {
  using torch_sla::LUAnalysis;
  py::class_<LUAnalysis> cls(m, "LUAnalysis");
  cls.def_property_readonly("bytes", &LUAnalysis::bytes);
  for_each_index([&](auto index) { bind_analysis_from<LUAnalysis, decltype(index)>(cls); });
  for_each_value([&](auto value) {
    using T = decltype(value);
    bind_factorize<torch_sla::LUFactor<T>, T>(cls, "lu");
  });
}

}  // namespace torch_sla_bindings
