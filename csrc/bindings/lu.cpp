#include "arrays.hpp"
#include "torch_sla/lu_solve.hpp"

namespace {

using namespace torch_sla_bindings;
using torch_sla::LuFactor;
using torch_sla::Symbolic;

template <class T>
void bind_lu(py::module_& m, const char* suffix) {
  using FactorT = LuFactor<T>;
  using Shared = std::shared_ptr<FactorT>;
  py::class_<FactorT, Shared>(m, (std::string("LuFactor_") + suffix).c_str(), py::module_local())
      .def_property_readonly("bytes", &FactorT::bytes)
      .def_property_readonly("interchanged", [](const FactorT& f) { return f.interchanged; })
      .def_property_readonly("log_determinant", [](const FactorT& f) { return torch_sla::log_determinant(f); });

  // values [batch, values of A]; slot and mirror [entries of the analysed pattern]. Factors, or None for members that
  // have no usable pivot in one of their fronts.
  m.def(
      "factorize",
      [](const std::shared_ptr<Symbolic>& symbolic, const Array<std::int32_t>& slot, const Array<std::int32_t>& mirror,
         const Array<T>& values, int threads) {
        const std::int64_t batch = values.shape(0), nnz = values.shape(1);
        check_slots(slot, symbolic->nnz, -1, nnz, "slot");
        check_slots(mirror, symbolic->nnz, 0, symbolic->nnz, "mirror");
        const T* v = values.data();
        const torch_sla::lanes::Places places{slot.data(), mirror.data()};
        std::vector<Shared> made(batch);
        {
          const Released release;
          const torch_sla::OneBlasThread one;
          const bool spread = batch >= threads;
          const torch_sla::Schedule plan = torch_sla::plan_schedule(*symbolic, spread ? 1 : threads);
          const auto across = torch_sla::across_offsets(*symbolic);
          const std::int64_t low = symbolic->panel_entries(), high = across.back();
          const torch_sla::Buffer<T> lower(batch * low), upper(batch * high);
          torch_sla::parallel_for(batch, spread ? threads : 1, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t k = begin; k < end; ++k) {
              auto f = std::make_shared<FactorT>();
              f->symbolic = symbolic;
              f->lower = torch_sla::Buffer<T>(lower, k * low, low);
              f->upper = torch_sla::Buffer<T>(upper, k * high, high);
              f->across = across;
              if (torch_sla::factorize_lu<T>(*f, places, v + k * nnz, plan, torch_sla::borrowed_blas<T>()) < 0)
                made[k] = std::move(f);
            }
          });
        }
        return made;
      },
      py::arg("symbolic"), array_arg("slot"), array_arg("mirror"), array_arg("values"), py::arg("threads"));

  // One system per factor: b and x [factors, n, nrhs].
  m.def(
      "solve",
      [](const std::vector<Shared>& factors, const Array<T>& b, Array<T>& x, bool transposed, bool conjugated,
         int threads) {
        const std::int64_t batch = static_cast<std::int64_t>(factors.size());
        if (batch == 0) return;
        const std::int64_t n = factors[0]->symbolic->n, nrhs = b.ndim() == 3 ? b.shape(2) : 1;
        expect_size(b, batch * n * nrhs, "b");
        expect_size(x, batch * n * nrhs, "x");
        for (const auto& f : factors)
          if (f->symbolic->n != n) throw std::invalid_argument("`factors` differ in size");
        const T* from = b.data();
        T* to = x.mutable_data();
        const Released release;
        const torch_sla::OneBlasThread one;
        const bool spread = batch >= threads;
        torch_sla::parallel_for(batch, spread ? threads : 1, [&](std::int64_t begin, std::int64_t end, int) {
          for (std::int64_t k = begin; k < end; ++k)
            torch_sla::solve(*factors[k], from + k * n * nrhs, to + k * n * nrhs, nrhs, transposed, conjugated,
                             spread ? 1 : threads, torch_sla::borrowed_blas<T>());
        });
      },
      py::arg("factors"), array_arg("b"), array_arg("x"), py::arg("transposed"), py::arg("conjugated"),
      py::arg("threads"));
}

}  // namespace

void bind_lu(py::module_& m) {
  m.doc() = "Multifrontal LU with pivots inside fronts.";
  bind_lu<double>(m, "d");
  bind_lu<float>(m, "s");
  bind_lu<std::complex<double>>(m, "z");
  bind_lu<std::complex<float>>(m, "c");
}
