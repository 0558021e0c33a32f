// A device of its own in the CPU's memory. What mixes it with the CPU fails, as it would on a GPU.
//
// PyTorch keeps a place for devices that it does not know (PrivateUse1). Each operation on one lands
// in `on_cpu` below: it refuses what a GPU would refuse, lends the tensors to the CPU without a copy,
// lets the CPU compute, and gives the result back as a tensor of the device.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/TensorShape.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <set>

using at::IntArrayRef;
using at::Tensor;
using c10::IValue;
using std::optional;

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(KIND, 0);
const c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

// Memory, streams and events: there is one device, and it is always ready.

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* place = nullptr;
    if (bytes && posix_memalign(&place, 64, bytes)) throw std::bad_alloc();
    return {place, place, &std::free, DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
} memory;
REGISTER_ALLOCATOR(KIND, &memory);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, DEVICE); }
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
} hooks;
const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// From one device to the other, over the same memory.

bool is_ours(const Tensor& t) { return t.defined() && t.device().type() == KIND; }

Tensor lend(const Tensor& t) {
  if (!is_ours(t)) return t;
  auto options = at::TensorOptions().dtype(t.dtype()).device(at::kCPU);
  if (t.numel() == 0) return at::empty_strided(t.sizes(), t.strides(), options);
  auto keep_alive = [kept = t.detach()](void*) {};
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), keep_alive, options);
}

Tensor take(const Tensor& t) {
  if (!t.defined() || !t.device().is_cpu()) return t;
  auto release = [](void* kept) { delete static_cast<Tensor*>(kept); };
  c10::DataPtr place(t.storage().mutable_data(), new Tensor(t), release, DEVICE);
  auto bytes = t.storage().nbytes();
  c10::Storage storage({}, bytes, std::move(place), &memory, true);
  auto ours = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), KEYS, t.dtype());
  auto* impl = ours.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return ours;
}

const Tensor& resize_storage(const Tensor& self, IntArrayRef sizes, optional<at::MemoryFormat>) {
  auto* storage = self.storage().unsafeGetStorageImpl();
  size_t bytes = (c10::multiply_integers(sizes) + self.storage_offset()) * self.element_size();
  if (bytes > storage->nbytes()) {
    auto larger = memory.allocate(bytes);
    if (storage->nbytes()) std::memcpy(larger.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return self;
}

// Every operation that has no version of its own below.

const std::set<std::string> TAKE_CPU_INDICES{
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"};

void refuse_mixed(const Tensor& t, const std::string& name, bool is_index = false,
    bool is_written = false) {
  bool number = t.defined() && t.dim() == 0 && !is_written;  // one may come from anywhere
  TORCH_CHECK(!t.defined() || is_ours(t) || number || is_index,
      "Expected all tensors to be on the same device: ", name, " got one of shape ", t.sizes(),
      " on the CPU");
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto& returns = op.schema().returns();
  const auto& name = op.schema().name();
  const auto first = stack->size() - arguments.size();
  const std::vector<IValue> given(stack->begin() + first, stack->end());
  const bool takes_indices = TAKE_CPU_INDICES.count(name);

  for (size_t i = 0; i < given.size(); ++i) {
    IValue& value = (*stack)[first + i];
    if (value.isTensor()) {
      const auto* alias = arguments[i].alias_info();
      refuse_mixed(value.toTensor(), name, false, alias && alias->isWrite());
      value = lend(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> lent;
      for (const Tensor& t : value.toTensorVector()) {
        refuse_mixed(t, name);
        lent.push_back(lend(t));
      }
      value = lent;
    } else if (value.isOptionalTensorList()) {
      c10::List<optional<Tensor>> lent;
      for (const optional<Tensor>& t : value.toOptionalTensorVector()) {
        if (t) refuse_mixed(*t, name, takes_indices);
        lent.push_back(t ? optional<Tensor>(lend(*t)) : t);
      }
      value = lent;
    } else if (value.isDevice()) {
      value = c10::Device(at::kCPU);
    }
    TORCH_CHECK(!value.isGenerator(), name, " got a generator of the CPU");
  }
  TORCH_CHECK(!takes_indices || is_ours(given[0].toTensor()),
      "indices should be on the device of the indexed tensor: ", name);

  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  for (size_t i = 0; i < returns.size(); ++i) {
    IValue& value = (*stack)[stack->size() - returns.size() + i];
    if (const auto* alias = returns[i].alias_info()) {  // what was written to is what was given
      size_t k = 0;
      while (k < given.size() && !(arguments[k].alias_info() && *arguments[k].alias_info() == *alias))
        ++k;
      TORCH_CHECK(k < given.size() && alias->isWrite(), name, " gives a view: write it by hand");
      const Tensor made = value.toTensor(), target = given[k].toTensor();
      if (made.sizes() != target.sizes())
        lend(resize_storage(target, made.sizes(), {})).copy_(made);
      value = target;
    } else if (value.isTensor()) {
      value = take(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> taken;
      for (const Tensor& t : value.toTensorVector()) taken.push_back(take(t));
      value = taken;
    }
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

// New memory, views of it, copies between devices, and convolution, whose choice of a kernel by
// device comes before the fallback.

Tensor empty(IntArrayRef sizes, optional<at::ScalarType> type, optional<at::Layout>,
    optional<at::Device>, optional<bool>, optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory, KEYS, c10::dtype_or_default(type), format);
}

Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, optional<at::ScalarType> type,
    optional<at::Layout>, optional<at::Device>, optional<bool>) {
  const auto kind = c10::dtype_or_default(type);
  return at::detail::empty_strided_generic(sizes, strides, &memory, KEYS, kind);
}

Tensor& set_part(Tensor& self, c10::Storage from, int64_t offset, IntArrayRef sizes,
    IntArrayRef strides) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(from));
  impl->set_sizes_and_strides(sizes, strides, offset);
  return self;
}

Tensor& set_whole(Tensor& self, c10::Storage from) {
  const int64_t count = from.nbytes() / self.element_size();
  return set_part(self, std::move(from), 0, {count}, {1});
}

Tensor& set_tensor(Tensor& self, const Tensor& from) {
  return set_part(self, from.storage(), from.storage_offset(), from.sizes(), from.strides());
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  lend(to).copy_(lend(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const Tensor& self) { return at::_local_scalar_dense(lend(self)); }

Tensor convolution(const Tensor& x, const Tensor& kernel, const optional<Tensor>& bias,
    IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, bool transposed,
    IntArrayRef output_padding, int64_t groups) {
  const Tensor b = bias.value_or(Tensor());
  for (const Tensor& t : {x, kernel, b}) refuse_mixed(t, "convolution");
  return take(at::convolution(lend(x), lend(kernel), lend(b), stride, padding, dilation, transposed,
      output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad, const Tensor& x,
    const Tensor& kernel, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
    bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  for (const Tensor& t : {grad, x, kernel}) refuse_mixed(t, "convolution_backward");
  const std::vector<int64_t> bias{kernel.size(0)};
  auto [a, b, c] = at::convolution_backward(lend(grad), lend(x), lend(kernel), bias, stride, padding,
      dilation, transposed, output_padding, groups, mask);
  return {take(a), take(b), take(c)};
}

Tensor as_strided(const Tensor& self, IntArrayRef sizes, IntArrayRef strides, optional<int64_t> o) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, o);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize_storage);
  library.impl("set_.source_Storage", set_whole);
  library.impl("set_.source_Storage_storage_offset", set_part);
  library.impl("set_.source_Tensor", set_tensor);
  library.impl("as_strided", as_strided);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", local_scalar_dense);
  library.impl("convolution_overrideable", convolution);
  library.impl("convolution_backward_overrideable", convolution_backward);
}

// With autocast: what the library's networks compute in bfloat16; all else in what arrives.

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  using namespace at::autocast;
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
}

}  // namespace
