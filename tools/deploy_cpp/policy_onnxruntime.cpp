// A policy.onnx in C++ with ONNX Runtime, as a robot's control loop would use it.
//
//   policy_onnxruntime policy.onnx SIZE < observations > actions
//
// SIZE is observation.size of the contract. Standard input has float32 observations, one after the other; standard
// output gets the actions: float32, or int64 where the policy's output is an index. The contract and the median latency
// of a call go to standard error.

// The library is asked for the API of these headers at the start of main, where an answer of "none" can be said.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

// A session of one thread, for a policy is too small for more.
Ort::Session opened(Ort::Env& environment, const char* path) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  return Ort::Session(environment, path, options);
}

std::string contract_of(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const Ort::ModelMetadata metadata = session.GetModelMetadata();
  const auto text = metadata.LookupCustomMetadataMapAllocated("torch_ppo.contract", allocator);
  return text ? text.get() : "";
}

// Throws unless the policy takes one observation (batch, size) of float32.
void check_input(const Ort::Session& session, int64_t size) {
  if (session.GetInputCount() != 1) {
    throw std::runtime_error("the policy takes " + std::to_string(session.GetInputCount()) +
                             " inputs, and one is given here");
  }
  const Ort::TypeInfo type = session.GetInputTypeInfo(0);
  const auto input = type.GetTensorTypeAndShapeInfo();
  const std::vector<int64_t> shape = input.GetShape();
  if (input.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || shape.size() != 2) {
    throw std::runtime_error("the policy sees something else than float32 observations (batch, size)");
  }
  if (shape[1] > 0 && shape[1] != size) {
    throw std::runtime_error("the observation must be (..., " + std::to_string(shape[1]) +
                             ") for this policy, but is [1, " + std::to_string(size) + "]");
  }
}

void write(const Ort::Value& action) {
  const auto output = action.GetTensorTypeAndShapeInfo();
  switch (output.GetElementType()) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      std::fwrite(action.GetTensorData<float>(), sizeof(float), output.GetElementCount(), stdout);
      return;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      std::fwrite(action.GetTensorData<int64_t>(), sizeof(int64_t), output.GetElementCount(), stdout);
      return;
    default:
      throw std::runtime_error("the policy gives something else than float32 or int64");
  }
}

void act(Ort::Session& session, int64_t size) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto input_name = session.GetInputNameAllocated(0, allocator);
  const auto output_name = session.GetOutputNameAllocated(0, allocator);
  const char* inputs[] = {input_name.get()};
  const char* outputs[] = {output_name.get()};

  const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t shape[] = {1, size};
  std::vector<float> observation(size);
  // The tensor only points to the numbers; nothing is copied.
  const Ort::Value input = Ort::Value::CreateTensor<float>(memory, observation.data(), observation.size(), shape, 2);
  const Ort::RunOptions options;

  std::vector<double> microseconds;
  size_t read;
  while ((read = std::fread(observation.data(), sizeof(float), size, stdin)) == observation.size()) {
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<Ort::Value> action = session.Run(options, inputs, &input, 1, outputs, 1);
    const auto end = std::chrono::steady_clock::now();
    microseconds.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
    write(action.front());
  }
  if (read != 0) {
    throw std::runtime_error("the input ends within an observation");
  }
  if (!microseconds.empty()) {
    std::nth_element(microseconds.begin(), microseconds.begin() + microseconds.size() / 2, microseconds.end());
    std::cerr << "median of " << microseconds.size() << " calls: " << microseconds[microseconds.size() / 2] << " us\n";
  }
}

int main(int argc, char** argv) {
  const int64_t size = argc == 3 ? std::atoll(argv[2]) : 0;
  if (size < 1) {
    std::cerr << "usage: policy_onnxruntime policy.onnx SIZE < observations > actions\n";
    return 2;
  }
  if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
    std::cerr << "error: ONNX Runtime " << OrtGetApiBase()->GetVersionString() << " is older than the headers (API "
              << ORT_API_VERSION << ") that this program was built with\n";
    return 1;
  }
  Ort::InitApi();
  try {
    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "policy");
    Ort::Session session = opened(environment, argv[1]);
    check_input(session, size);
    std::cerr << contract_of(session) << "\n";
    act(session, size);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
