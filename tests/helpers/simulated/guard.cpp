// Answers what autograd asks about streams, in a torch built without CUDA: there is one device, and nothing to wait for.
// Such a torch knows no accelerator while it runs but "PrivateUse1", so that is what its tensors are underneath.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace c10::impl {

template <DeviceType D>
struct SimulatedGuard final : NoOpDeviceGuardImpl<D> {
  Device getDevice() const override {
    return Device(D, 0);
  }
  Device exchangeDevice(Device) const override {
    return Device(D, 0);
  }
  Stream getStream(Device) const noexcept override {
    return Stream(Stream::DEFAULT, Device(D, 0));
  }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, SimulatedGuard<DeviceType::CUDA>)
C10_REGISTER_GUARD_IMPL(PrivateUse1, SimulatedGuard<DeviceType::PrivateUse1>)

} // namespace c10::impl

namespace {

struct SimulatedHooks final : at::PrivateUse1HooksInterface {
  void init() const override {}
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  bool isPinnedPtr(const void*) const override {
    return false;
  }
};

const bool registered = [] {
  at::RegisterPrivateUse1HooksInterface(new SimulatedHooks);
  return true;
}();

} // namespace
