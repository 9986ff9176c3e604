(* Theorem 29

   Printed by bnjax from the programs that JAX traced.  Believe, and nothing else:
   ---------------------------------------------------------------------------------------------------
   JAX's tracing         the definitions below are the jaxprs that JAX traced, at letters for sizes; where
                         Python branches on a size, another program runs at that size
   the printer           bnjax/prove/coq/: printer.py and terms.py (a jaxpr as a Coq function), claim.py and
                         statement.py (what is claimed of it)
   the meanings          sum, rsqrt, bit and select, at the top of Batch.v; the operations of Coq's reals
   Coq's kernel          and the axioms of its reals: sig_forall_dec, sig_not_dec,
                         functional_extensionality_dep
   not covered           rounding, XLA's compilation; casts between float types are identities, and
                         integers do not overflow
   --------------------------------------------------------------------------------------------------- *)
Set Warnings "-ambiguous-paths".
Require Import Batch.

Definition primal_program (n : nat) (x : nat -> R) : ((nat -> R)) * Prop :=
  let a1 := sum n (fun i : nat => x i) in
  let a2 := a1 / (INR n) in
  let a3 := fun i : nat => x i - a2 in
  ((a3),
   ((INR n) <> 0) /\ True).
Definition primal (n : nat) (x : nat -> R) : (nat -> R) := fst (primal_program n x).
Definition primal_defined (n : nat) (x : nat -> R) : Prop := snd (primal_program n x).

Definition op_program (n : nat) (x : nat -> R) : ((nat -> R)) * Prop :=
  let a1 := sum n (fun i : nat => x i) in
  let a2 := a1 / (INR n) in
  let a3 := fun i : nat => x i - a2 in
  ((a3),
   ((INR n) <> 0) /\ True).
Definition op (n : nat) (x : nat -> R) : (nat -> R) := fst (op_program n x).
Definition op_defined (n : nat) (x : nat -> R) : Prop := snd (op_program n x).

Definition vjp_program (n : nat) (dy : nat -> R) (x : nat -> R) : ((nat -> R) * (nat -> R)) * Prop :=
  let a1 := sum n (fun i : nat => x i) in
  let a2 := a1 / (INR n) in
  let a3 := fun i : nat => x i - a2 in
  let a4 := sum n (fun i : nat => dy i) in
  let a5 := a4 / (INR n) in
  let a6 := fun i : nat => dy i - a5 in
  ((a3, a6),
   ((INR n) <> 0) /\ True).
Definition vjp (n : nat) (dy : nat -> R) (x : nat -> R) : (nat -> R) * (nat -> R) := fst (vjp_program n dy x).
Definition vjp_defined (n : nat) (dy : nat -> R) (x : nat -> R) : Prop := snd (vjp_program n dy x).

Theorem vjp_is_the_derivative (n : nat) (x : R -> nat -> R) (d_x : nat -> R) (dy : nat -> R) (t : R) :
  (0 < n)%nat ->
  (forall i : nat, is_derive (fun s => x s i) t (d_x i)) ->
  primal_defined n (x t) /\
  op_defined n (x t) /\
  vjp_defined n dy (x t) /\
  let f := primal n (x t) in
  let o := op n (x t) in
  let '(y, v_x) := vjp n dy (x t) in
  (forall i : nat, o i = f i) /\
  (forall i : nat, y i = f i) /\
  is_derive (fun s => let f := primal n (x s) in
     sum n (fun i : nat => dy i * f i)) t
    (sum n (fun i : nat => d_x i * v_x i)).
Proof.
  unfold primal, primal_defined, primal_program, op, op_defined, op_program, vjp, vjp_defined, vjp_program.
  start. refine (conj _ (conj _ (conj _ (conj _ (conj _ _))))).
  - defined. (* primal is defined *)
  - defined. (* op is defined *)
  - defined. (* the hand VJP is defined *)
  - same. (* the value of op *)
  - same. (* the value of op under vjp *)
  - eapply d_eq; [derive |]. (* the derivative of primal *)
    first [identity | channel n; identity]. (* the identity *)
Qed.
Print Assumptions vjp_is_the_derivative.
