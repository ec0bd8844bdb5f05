// A policy.pt in C++ with LibTorch, as a robot's control loop would use it.
//
//   policy_libtorch policy.pt SIZE < observations > actions
//
// SIZE is observation.size of the contract. Standard input has float32 observations, one after the other; standard
// output gets the actions: float32, or int64 where the policy's output is an index. The contract and the median latency
// of a call go to standard error.

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

// The last line of what torch says: where the policy itself objects, the lines before are a trace of TorchScript.
std::string last_line(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text.substr(text.rfind('\n') + 1);
}

int main(int argc, char** argv) {
  const int64_t size = argc == 3 ? std::atoll(argv[2]) : 0;
  if (size < 1) {
    std::cerr << "usage: policy_libtorch policy.pt SIZE < observations > actions\n";
    return 2;
  }
  try {
    at::set_num_threads(1);
    c10::InferenceMode guard;
    std::unordered_map<std::string, std::string> extra = {{"contract.json", ""}};
    torch::jit::Module policy = torch::jit::load(argv[1], torch::kCPU, extra);
    policy.eval();
    std::cerr << extra["contract.json"] << "\n";

    std::vector<float> observation(size);
    std::vector<double> microseconds;
    size_t read;
    while ((read = std::fread(observation.data(), sizeof(float), size, stdin)) == observation.size()) {
      const auto begin = std::chrono::steady_clock::now();
      // The tensor only points to the numbers; nothing is copied.
      const at::Tensor input = torch::from_blob(observation.data(), {1, size});
      const at::Tensor action = policy.forward({input}).toTensor().contiguous();
      const auto end = std::chrono::steady_clock::now();
      microseconds.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
      std::fwrite(action.data_ptr(), action.element_size(), action.numel(), stdout);
    }
    if (read != 0) {
      throw std::runtime_error("the input ends within an observation");
    }
    if (!microseconds.empty()) {
      std::nth_element(microseconds.begin(), microseconds.begin() + microseconds.size() / 2, microseconds.end());
      std::cerr << "median of " << microseconds.size() << " calls: " << microseconds[microseconds.size() / 2] << " us\n";
    }
  } catch (const c10::Error& error) {  // a file that is not there, say: what() would have a trace of the stack
    std::cerr << "error: " << error.what_without_backtrace() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << last_line(error.what()) << "\n";
    return 1;
  }
  return 0;
}
