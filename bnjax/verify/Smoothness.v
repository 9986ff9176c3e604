(* The bounds of theorem 31 on g = −istd³·(x − μ)/N, for sums over any axes; each is reached. *)
Set Warnings "-ambiguous-paths".
Require Import Batch.

(* 4(s + e)³ − 27e²s = (2s − e)²·(s + 4e) *)
Lemma cubic s e : 0 <= s -> 0 < e -> 27 * e ^ 2 * s <= 4 * (s + e) ^ 3.
Proof.
  intros. assert (0 <= (2 * s - e) ^ 2 * (s + 4 * e)) by (apply Rmult_le_pos; [apply pow2_ge_0 | lra]).
  replace (4 * (s + e) ^ 3) with (27 * e ^ 2 * s + (2 * s - e) ^ 2 * (s + 4 * e)) by ring. lra.
Qed.

Lemma rsqrt_six a : 0 < a -> (rsqrt a ^ 3) ^ 2 = / a ^ 3.
Proof.
  intros P. unfold rsqrt. rewrite <- (sqrt_sqrt a) at 2 by lra. field. now apply pos_nonzero, sqrt_lt_R0.
Qed.

Lemma root_bound a b : 0 <= b -> a <= b ^ 2 -> sqrt a <= b.
Proof. intros B A. rewrite <- (sqrt_pow2 b B). now apply sqrt_le_1_alt. Qed.

Lemma abs_bound a b : 0 <= b -> a ^ 2 <= b ^ 2 -> Rabs a <= b.
Proof. intros B A. rewrite <- sqrt_Rsqr_abs. apply root_bound; [easy|]. unfold Rsqr. lra. Qed.

Section Bounds.
Context {I : Type} (L : (I -> R) -> R) (N : R) (A : linear L) (P : positive L) (S : L (fun _ => 1) = N).
Hypothesis N_pos : 0 < N.

Definition mean (x : I -> R) := L x / N.
Definition variance_of (x : I -> R) := L (fun i => (x i - mean x) ^ 2) / N.
Definition istd_gradient (x : I -> R) (e : R) (i : I) := - rsqrt (variance_of x + e) ^ 3 * (x i - mean x) / N.
Definition norm_bound (e : R) := 2 / (3 * sqrt 3 * e * sqrt N).
Definition entry_bound (e : R) := sqrt (N - 1) / N * (2 / (3 * sqrt 3 * e)).

Lemma variance_nonneg_of x : 0 <= variance_of x.
Proof. apply Rle_mult_inv_pos; [apply P; intro; apply pow2_ge_0 | easy]. Qed.

Lemma norm_square x e : 0 < e ->
  L (fun i => istd_gradient x e i ^ 2) = / (variance_of x + e) ^ 3 * variance_of x / N.
Proof.
  intros E. assert (V := variance_nonneg_of x). rewrite <- rsqrt_six by lra.
  rewrite (l_ext L A _ (fun i => (rsqrt (variance_of x + e) ^ 3) ^ 2 / N ^ 2 * (x i - mean x) ^ 2))
    by (intro; unfold istd_gradient; field; lra).
  rewrite (l_mul L A). unfold variance_of at 3. field; lra.
Qed.

Lemma three : sqrt 3 * sqrt 3 = 3 /\ 0 < sqrt 3.
Proof. split; [apply sqrt_sqrt; lra | apply sqrt_lt_R0; lra]. Qed.

Lemma norm_bound_square e : 0 < e -> norm_bound e ^ 2 = 4 / (27 * e ^ 2 * N) /\ 0 < norm_bound e.
Proof.
  intros E. destruct three as [T T']. assert (Q : sqrt N * sqrt N = N) by (apply sqrt_sqrt; lra).
  assert (Q' : 0 < sqrt N) by now apply sqrt_lt_R0. unfold norm_bound. split; [|pos].
  replace (27 * e ^ 2 * N) with (9 * (sqrt 3 * sqrt 3) * e ^ 2 * (sqrt N * sqrt N)) by (rewrite T, Q; ring).
  field; repeat split; lra.
Qed.

Lemma entry_bound_square e : 0 < e -> 1 <= N ->
  entry_bound e ^ 2 = (N - 1) / N * (4 / (27 * e ^ 2 * N)) /\ 0 <= entry_bound e.
Proof.
  intros E M. destruct three as [T T']. assert (Q : sqrt (N - 1) * sqrt (N - 1) = N - 1) by (apply sqrt_sqrt; lra).
  unfold entry_bound. split.
  - replace ((N - 1) / N * (4 / (27 * e ^ 2 * N)))
      with (sqrt (N - 1) * sqrt (N - 1) / N * (4 / (9 * (sqrt 3 * sqrt 3) * e ^ 2 * N)))
      by (rewrite T, Q; field; lra). field; repeat split; lra.
  - apply Rmult_le_pos; [apply Rle_mult_inv_pos; [apply sqrt_pos | easy] | apply Rlt_le; pos].
Qed.

Theorem norm_bounded x e : 0 < e -> sqrt (L (fun i => istd_gradient x e i ^ 2)) <= norm_bound e.
Proof.
  intros E. destruct (norm_bound_square e E) as [B B']. apply root_bound; [lra|]. rewrite norm_square, B by easy.
  assert (V := variance_nonneg_of x). set (s := variance_of x) in *. assert (C := cubic s e V E).
  assert (0 < (s + e) ^ 3) by (apply pow_lt; lra). assert (0 < e ^ 2) by (apply pow_lt; lra).
  apply Rmult_le_reg_r with ((s + e) ^ 3 * (27 * e ^ 2 * N)); [repeat apply Rmult_lt_0_compat; lra|].
  replace (/ (s + e) ^ 3 * s / N * ((s + e) ^ 3 * (27 * e ^ 2 * N))) with (27 * e ^ 2 * s) by (field; split; lra).
  replace (4 / (27 * e ^ 2 * N) * ((s + e) ^ 3 * (27 * e ^ 2 * N))) with (4 * (s + e) ^ 3) by (field; split; lra).
  lra.
Qed.

(* an index whose entry is part of the sum *)
Definition within (i : I) := forall f, (forall j, 0 <= f j) -> f i <= L f.

Lemma size_at_least_one i : within i -> 1 <= N.
Proof. intros W. rewrite <- S. apply (W (fun _ => 1)). intro; lra. Qed.

(* Samuelson's inequality, by Σ (x − μ − c)² ≥ (x_i − μ − c)² at c = −(x_i − μ)/(N − 1) *)
Lemma samuelson x i : within i -> (x i - mean x) ^ 2 <= (N - 1) * variance_of x.
Proof.
  intros W. assert (M := size_at_least_one i W). set (d := x i - mean x).
  assert (Z : forall c, L (fun j => (x j - mean x - c) ^ 2) = N * variance_of x + N * c ^ 2).
  { intro c. rewrite (l_ext L A _ (fun j => (x j - mean x) ^ 2 + (-2 * c * x j + (2 * c * mean x + c ^ 2) * 1)))
      by (intro; ring).
    rewrite !(l_add L A), !(l_mul L A), S. unfold variance_of. replace (L x) with (N * mean x) by (unfold mean; field; lra).
    field; lra. }
  assert (V := variance_nonneg_of x).
  destruct (Req_dec N 1) as [O|O].
  - assert (Y : forall c, d ^ 2 - 2 * c * d <= variance_of x).
    { intro c. assert (K := W _ (fun j => pow2_ge_0 (x j - mean x - c))). rewrite (Z c) in K. fold d in K.
      replace ((d - c) ^ 2) with (d ^ 2 - 2 * c * d + c ^ 2) in K by ring. rewrite O in K. lra. }
    rewrite O. replace ((1 - 1) * variance_of x) with 0 by ring.
    destruct (Req_dec d 0) as [D|D]; [rewrite D; lra|].
    assert (K := Y (- (variance_of x + 1) / (2 * d))).
    replace (d ^ 2 - 2 * (- (variance_of x + 1) / (2 * d)) * d) with (d ^ 2 + variance_of x + 1) in K by (field; lra).
    assert (0 <= d ^ 2) by apply pow2_ge_0. lra.
  - assert (B := W _ (fun j => pow2_ge_0 (x j - mean x - - d / (N - 1)))). rewrite Z in B. fold d in B.
    replace ((d - - d / (N - 1)) ^ 2) with (d ^ 2 * N ^ 2 / (N - 1) ^ 2) in B by (field; lra).
    apply (Rmult_le_reg_l (N / (N - 1))); [apply Rdiv_lt_0_compat; lra|].
    replace (N / (N - 1) * ((N - 1) * variance_of x)) with (N * variance_of x) by (field; lra).
    replace (N / (N - 1) * d ^ 2) with (d ^ 2 * N ^ 2 / (N - 1) ^ 2 - N * (- d / (N - 1)) ^ 2) by (field; lra). lra.
Qed.

Theorem entry_bounded x e i : 0 < e -> within i -> Rabs (istd_gradient x e i) <= entry_bound e.
Proof.
  intros E W. assert (M := size_at_least_one i W). destruct (entry_bound_square e E M) as [B B'].
  apply abs_bound; [easy|]. rewrite B. assert (V := variance_nonneg_of x). assert (K := samuelson x i W).
  unfold istd_gradient. set (s := variance_of x) in *. set (d := x i - mean x) in *. assert (C := cubic s e V E).
  replace ((- rsqrt (s + e) ^ 3 * d / N) ^ 2) with ((rsqrt (s + e) ^ 3) ^ 2 * d ^ 2 / N ^ 2) by (field; lra).
  rewrite rsqrt_six by lra.
  assert (0 < (s + e) ^ 3) by (apply pow_lt; lra). assert (0 < e ^ 2) by (apply pow_lt; lra).
  assert (0 < N ^ 2) by (apply pow_lt; lra).
  apply Rmult_le_reg_r with ((s + e) ^ 3 * (27 * e ^ 2 * N ^ 2)); [repeat apply Rmult_lt_0_compat; lra|].
  replace (/ (s + e) ^ 3 * d ^ 2 / N ^ 2 * ((s + e) ^ 3 * (27 * e ^ 2 * N ^ 2))) with (27 * e ^ 2 * d ^ 2)
    by (field; split; lra).
  replace ((N - 1) / N * (4 / (27 * e ^ 2 * N)) * ((s + e) ^ 3 * (27 * e ^ 2 * N ^ 2)))
    with ((N - 1) * (4 * (s + e) ^ 3)) by (field; split; lra).
  apply Rle_trans with (27 * e ^ 2 * ((N - 1) * s)); [apply Rmult_le_compat_l; lra|].
  replace (27 * e ^ 2 * ((N - 1) * s)) with ((N - 1) * (27 * e ^ 2 * s)) by ring. apply Rmult_le_compat_l; lra.
Qed.

Lemma istd_gradient_ext x z e i : (forall j, x j = z j) -> istd_gradient x e i = istd_gradient z e i.
Proof.
  intros Q. unfold istd_gradient, variance_of, mean. rewrite (l_ext L A x z Q), (Q i).
  now rewrite (l_ext L A (fun j => (x j - L z / N) ^ 2) (fun j => (z j - L z / N) ^ 2)) by (intro; now rewrite Q).
Qed.

(* Both are reached by the one outlier: x = a·(N·δ − 1), with a² = e/(2(N − 1)), so that σ² = e/2. *)
Theorem bounds_reached delta i e : 0 < e -> 1 < N ->
  is_bit delta -> L delta = 1 -> delta i = 1 ->
  exists x, sqrt (L (fun j => istd_gradient x e j ^ 2)) = norm_bound e /\ Rabs (istd_gradient x e i) = entry_bound e.
Proof.
  intros E M D D1 Di. set (a := sqrt (e / (2 * (N - 1)))).
  assert (A2 : a * a = e / (2 * (N - 1))) by (apply sqrt_sqrt, Rlt_le, Rdiv_lt_0_compat; lra).
  assert (A0 : 0 <= a) by apply sqrt_pos.
  exists (fun j => a * (N * delta j - 1)).
  assert (Mu : mean (fun j => a * (N * delta j - 1)) = 0).
  { unfold mean. rewrite (l_ext L A _ (fun j => a * N * delta j + - a * 1)) by (intro; ring).
    rewrite (l_add L A), !(l_mul L A), S, D1. field; lra. }
  assert (V : variance_of (fun j => a * (N * delta j - 1)) = e / 2).
  { unfold variance_of. rewrite Mu.
    rewrite (l_ext L A _ (fun j => a * a * (N * N - 2 * N) * delta j + a * a * 1))
      by (intro j; transitivity (a * a * (N * N * (delta j * delta j) - 2 * N * delta j + 1)); [ring | rewrite D; ring]).
    rewrite (l_add L A), !(l_mul L A), S, D1, A2. field; lra. }
  destruct (norm_bound_square e E) as [B B']. destruct (entry_bound_square e E ltac:(lra)) as [C C'].
  split.
  - rewrite <- (sqrt_pow2 (norm_bound e)) by lra. f_equal. rewrite norm_square, V, B by easy. field; lra.
  - rewrite <- (sqrt_pow2 (entry_bound e)), C by easy. rewrite <- sqrt_Rsqr_abs. f_equal. unfold Rsqr, istd_gradient.
    rewrite V, Mu, Di.
    transitivity ((rsqrt (e / 2 + e) ^ 3) ^ 2 * (a * a * (N - 1) ^ 2) / N ^ 2); [field; lra|].
    rewrite rsqrt_six, A2 by lra. field; lra.
Qed.
End Bounds.

(* the first element of a batch, and that every element is part of its sum *)
Definition first1 (i : nat) : R := match i with O => 1 | _ => 0 end.
Lemma sum_first n f : (0 < n)%nat -> sum n (fun i => first1 i * f i) = f O.
Proof.
  intros H. destruct n; [lia|]. clear H. induction n; [simpl; ring|].
  change (sum (S (S n)) (fun i => first1 i * f i)) with (sum (S n) (fun i => first1 i * f i) + 0 * f (S n)).
  rewrite IHn. ring.
Qed.
Lemma first1_is_bit : is_bit first1.
Proof. intros i; destruct i; simpl; ring. Qed.

Lemma sum_within n i f : (i < n)%nat -> (forall j, 0 <= f j) -> f i <= sum n f.
Proof.
  intros H P. induction n; [lia|]. simpl. assert (0 <= sum n f) by now apply sum_nonneg.
  assert (Q := P n). destruct (Nat.eq_dec i n) as [->|]; [lra|]. specialize (IHn ltac:(lia)). lra.
Qed.
Lemma within1 n i : (i < n)%nat -> within (over1 n) i.
Proof. intros H f P. now apply sum_within. Qed.
Lemma within3 n m k i j l : (i < n)%nat -> (j < m)%nat -> (l < k)%nat -> within (over3 n m k) (i, (j, l)).
Proof.
  intros X Y Z f P. unfold over3, over2, over1.
  apply Rle_trans with (sum k (fun c => f (i, (j, c)))); [apply (sum_within k l (fun c => f (i, (j, c)))); auto|].
  apply Rle_trans with (sum m (fun b => sum k (fun c => f (i, (b, c))))).
  - apply (sum_within m j (fun b => sum k (fun c => f (i, (b, c))))); auto. intro; now apply sum_nonneg.
  - apply (sum_within n i (fun a => sum m (fun b => sum k (fun c => f (a, (b, c)))))); auto.
    intro; apply sum_nonneg; intro; now apply sum_nonneg.
Qed.

Definition first3 (p : nat * (nat * nat)) := first1 (fst p) * (first1 (fst (snd p)) * first1 (snd (snd p))).
Lemma first3_is_bit : is_bit first3.
Proof.
  intros p. unfold first3. transitivity ((first1 (fst p) * first1 (fst p)) *
    ((first1 (fst (snd p)) * first1 (fst (snd p))) * (first1 (snd (snd p)) * first1 (snd (snd p))))); [ring|].
  now rewrite !(first1_is_bit _).
Qed.
Lemma over3_first n m k : (0 < n)%nat -> (0 < m)%nat -> (0 < k)%nat -> over3 n m k first3 = 1.
Proof.
  intros X Y Z. unfold over3, over2, over1, first3. cbn [fst snd].
  rewrite (sum_ext n _ (fun i => first1 i * 1)); [now rewrite sum_first|]. intro i.
  rewrite (sum_ext m _ (fun j => first1 j * first1 i)); [now rewrite sum_first, Rmult_1_r|]. intro j.
  rewrite (sum_ext k _ (fun l => first1 l * (first1 i * first1 j))) by (intro; ring). rewrite sum_first by easy. ring.
Qed.
Lemma over1_first n : (0 < n)%nat -> over1 n first1 = 1.
Proof. intros H. unfold over1. rewrite (sum_ext n _ (fun i => first1 i * 1)) by (intro; ring). now rewrite sum_first. Qed.
