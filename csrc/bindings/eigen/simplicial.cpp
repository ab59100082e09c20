#include "torch_sla/eigen_simplicial.hpp"

#include "factorize.hpp"

namespace torch_sla_bindings {

void bind_simplicial(py::module_& m) {
  using torch_sla::SimplicialAnalysis;
  py::class_<SimplicialAnalysis> cls(m, "SimplicialAnalysis");
  cls.def_property_readonly("bytes", &SimplicialAnalysis::bytes);
  cls.def_property_readonly("nonzeros", [](const SimplicialAnalysis& analysis) {
    return analysis.below_diagonal + analysis.n;
  });
  for_each_index([&](auto index) {
    bind_analysis_from<SimplicialAnalysis, decltype(index)>(cls);
  });
  for_each_value([&](auto value) {
    using T = decltype(value);
    bind_factorize<torch_sla::SimplicialFactor<T, Eigen::SimplicialLLT>, T>(cls, "llt");
    bind_factorize<torch_sla::SimplicialFactor<T, Eigen::SimplicialLDLT>, T>(cls, "ldlt");
  });
}

}  // namespace torch_sla_bindings
