// A policy.pt in C++ with LibTorch, as a robot's control loop would use it.
//
//   policy_libtorch policy.pt SIZE < observations > actions
//
// SIZE is observation.size of the contract. Standard input has float32 observations, one after the other; standard
// output gets the float32 actions. The contract and the median latency of a call go to standard error.

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <unordered_map>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: policy_libtorch policy.pt SIZE < observations > actions\n";
    return 2;
  }
  const int64_t size = std::atoll(argv[2]);
  try {
    at::set_num_threads(1);
    c10::InferenceMode guard;
    std::unordered_map<std::string, std::string> extra = {{"contract.json", ""}};
    torch::jit::Module policy = torch::jit::load(argv[1], torch::kCPU, extra);
    policy.eval();
    std::cerr << extra["contract.json"] << "\n";

    std::vector<float> observation(size);
    std::vector<double> microseconds;
    while (std::fread(observation.data(), sizeof(float), size, stdin) == static_cast<size_t>(size)) {
      const auto begin = std::chrono::steady_clock::now();
      // The tensor only points to the numbers; nothing is copied.
      const at::Tensor input = torch::from_blob(observation.data(), {1, size});
      const at::Tensor action = policy.forward({input}).toTensor().contiguous();
      const auto end = std::chrono::steady_clock::now();
      microseconds.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
      std::fwrite(action.data_ptr<float>(), sizeof(float), action.numel(), stdout);
    }
    if (!microseconds.empty()) {
      std::nth_element(microseconds.begin(), microseconds.begin() + microseconds.size() / 2, microseconds.end());
      std::cerr << "median of " << microseconds.size() << " calls: " << microseconds[microseconds.size() / 2] << " us\n";
    }
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
