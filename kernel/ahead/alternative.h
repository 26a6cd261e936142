/* For Linux' arch/x86/kernel/alternative.c, which patches some 38,000 calls and returns while the kernel boots. What it
 * does for each is made shorter, with the same result. */
#ifndef MINIVM_KERNEL_AHEAD_ALTERNATIVE_H
#define MINIVM_KERNEL_AHEAD_ALTERNATIVE_H

#include <asm/alternative.h>
#include <asm/insn.h>
#include <asm/nospec-branch.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/static_call.h>
#include <linux/sync_core.h>

#undef pr_fmt /* which the file defines for itself */

/* A decoder for all of x86 takes some 320 instructions for each. Nearly all are a CALL or JMP with a displacement of 32
 * bits, and their first byte says so (SDM 2A, CALL; JMP). Of such an instruction, the fields that this file reads: */
static inline int minivm_quick_decode(struct insn* insn, const unsigned char* address) {
  if (address[0] != 0xE8 && address[0] != 0xE9) return insn_decode(insn, address, MAX_INSN_SIZE, INSN_MODE_KERN);
  insn->opcode.value = address[0];
  insn->immediate.value = *(const int*)(address + 1);
  insn->length = 5;
  return 0;
}
#undef insn_decode_kernel
#define insn_decode_kernel(insn, address) minivm_quick_decode(insn, (const unsigned char*)(address))

/* While SYSTEM_BOOTING there is one CPU and no module. A CPU that changes code by the address at which it runs it, as
 * here, needs no more than the jump to that code (SDM 3A, 8.1.3), not an IRET, which empties its pipeline. */
#define sync_core()                                    \
  do {                                                 \
    if (system_state != SYSTEM_BOOTING) (sync_core)(); \
  } while (0)
#define is_module_text_address(address) (system_state != SYSTEM_BOOTING && is_module_text_address(address))

/* Most of the places are returns, each a JMP to the return thunk, which most CPUs do not want: RET, INT3, INT3, INT3,
 * INT3. Whoever runs it between the two stores finds a RET. Asked whether it has dealt with the place, as
 * __static_call_fixup is for the return of a static call's trampoline, behind which there is UD1 ESP, ECX. Near the end
 * of a page, behind which there may be none, Linux looks by itself. */
static inline bool minivm_patch_return(unsigned char* address, void* target) {
  if (system_state != SYSTEM_BOOTING || target != (void*)&__x86_return_thunk) return false;
  if (offset_in_page(address) > PAGE_SIZE - 8 || *(const unsigned short*)(address + 5) == 0xB90F) return false;
  if (cpu_wants_rethunk_at(address)) return false;
  WRITE_ONCE(*address, 0xC3);
  WRITE_ONCE(*(unsigned int*)(address + 1), 0xCCCCCCCC);
  return true;
}
#define __static_call_fixup(address, opcode, target) \
  (minivm_patch_return(address, target) || __static_call_fixup(address, opcode, target))

#endif
