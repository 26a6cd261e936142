/* For Linux' arch/x86/kernel/alternative.c, which kernel/build has the compiler include this in front of. While it
 * boots, Linux decodes the instruction at each of 38,000 calls and returns that it may patch, by a decoder for all of
 * x86: some 320 instructions each, a sixth of a boot. Nearly all are a CALL or JMP with a displacement of 32 bits, and
 * their first byte says so (SDM 2A, CALL; JMP). */
#ifndef MINIVM_KERNEL_QUICK_DECODE_H
#define MINIVM_KERNEL_QUICK_DECODE_H

#include <asm/insn.h>

/* Of such an instruction, the fields that this file reads. */
static inline int minivm_quick_decode(struct insn* insn, const unsigned char* address) {
  if (address[0] != 0xE8 && address[0] != 0xE9) return insn_decode(insn, address, MAX_INSN_SIZE, INSN_MODE_KERN);
  insn->opcode.value = address[0];
  insn->immediate.value = *(const int*)(address + 1);
  insn->length = 5;
  return 0;
}

#undef insn_decode_kernel
#define insn_decode_kernel(insn, address) minivm_quick_decode(insn, (const unsigned char*)(address))

#endif
