// Attention on the CPU: forward, backward and double backward, one block of queries of one head at a time. Compiled
// once per instruction set by each_isa.h. T is the storage type, A = accumulate_t<T>. In the letters of the maths:
//   S = tau Q K^T + bias, P = softmax(S), O = P V, L = logsumexp(S)
//   dP = dO V^T, D = rowsum(dO*O) - dL, dS = P*(dP - D); dQ = tau dS K, dK = tau dS^T Q, dV = P^T dO, dbias =
//   colsum(dS)
// and with cotangents X, Y, Z, x on dQ, dK, dV, dbias:
//   E = tau (X K^T + Q Y^T) + x, mu = rowsum(P*E), ddO = (P*E) V + P Z - mu O, ddL = mu
//   T0 = dO Z^T + E*(dP - D), b = rowsum(P*T0) - mu rowsum(P*dP), dS2 = P*(T0 - mu dP - b)
//   dQ' = tau (dS Y + dS2 K), dK' = tau (dS^T X + dS2^T Q), dV' = (P*(E - mu))^T dO, dbias' = colsum(dS2)
// Logits are divided by log 2, so that the exponential is a power of two. Within a query block everything is local.
// What is summed over query blocks (dK, dV, dbias) is accumulated per group of them and added up in the order of the
// groups: no result depends on the number of threads.

#include "cpu/attention/packing.h"
// The passes; double_backward.h uses what backward.h defines.
#include "cpu/attention/backward.h"
#include "cpu/attention/double_backward.h"
#include "cpu/attention/forward.h"
