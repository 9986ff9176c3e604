(* Finite sums over the reals, their derivatives, a verified normal form of sums, and the tactics of the proofs.

   A reader has to believe the five definitions under "meaning", and nothing else here: all that follows is
   checked by Coq's kernel. *)
From Coq Require Export Reals List Lia Lra.
Set Warnings "-ambiguous-paths".
From Coquelicot Require Export Coquelicot.
Export ListNotations.
Open Scope R_scope.

(* --- meaning ----------------------------------------------------------------------------------------- *)
Fixpoint sum (n : nat) (f : nat -> R) : R :=
  match n with O => 0 | S m => sum m f + f m end.
Definition rsqrt (x : R) : R := / sqrt x.
Definition bit (b : bool) : R := if b then 1 else 0.
Definition select (which on off : R) : R := which * on + (1 - which) * off.

Lemma select_is_a_choice b on off : select (bit b) on off = if b then on else off.
Proof. destruct b; unfold select, bit; ring. Qed.

(* --- sums -------------------------------------------------------------------------------------------- *)
Lemma sum_ext n f g : (forall i, f i = g i) -> sum n f = sum n g.
Proof. intros E; induction n; simpl; [easy|]. now rewrite IHn, E. Qed.

Lemma sum_add n f g : sum n (fun i => f i + g i) = sum n f + sum n g.
Proof. induction n; simpl; [ring|]. rewrite IHn; ring. Qed.

Lemma sum_mul n c f : sum n (fun i => c * f i) = c * sum n f.
Proof. induction n; simpl; [ring|]. rewrite IHn; ring. Qed.

Lemma sum_const n c : sum n (fun _ => c) = INR n * c.
Proof. induction n; [simpl; ring|]. cbn [sum]. rewrite IHn, S_INR; ring. Qed.

Lemma sum_nonneg n f : (forall i, 0 <= f i) -> 0 <= sum n f.
Proof. intros P; induction n; simpl; [lra|]. specialize (P n); lra. Qed.

Lemma sum_pos n f : (0 < n)%nat -> (forall i, 0 < f i) -> 0 < sum n f.
Proof.
  intros N P; destruct n; [lia|]. simpl. assert (0 <= sum n f) by (apply sum_nonneg; intro i; specialize (P i); lra).
  specialize (P n); lra.
Qed.

Lemma sum_exchange n m f : sum m (fun j => sum n (f j)) = sum n (fun i => sum m (fun j => f j i)).
Proof. induction m; simpl; [now rewrite sum_const, Rmult_0_r|]. now rewrite IHm, <- sum_add. Qed.

(* --- derivatives, one rule a primitive ------------------------------------------------------------------ *)
Lemma d_const c t : is_derive (fun _ : R => c) t 0.
Proof. apply (is_derive_const c t). Qed.

Lemma d_sum n (f : R -> nat -> R) t d :
  (forall i, is_derive (fun s => f s i) t (d i)) -> is_derive (fun s => sum n (f s)) t (sum n d).
Proof.
  intros H; induction n; simpl; [apply (is_derive_const 0)|].
  apply (is_derive_plus (fun s => sum n (f s)) (fun s => f s n)); auto.
Qed.

Lemma d_add f g t df dg : is_derive f t df -> is_derive g t dg -> is_derive (fun s => f s + g s) t (df + dg).
Proof. intros; now apply (is_derive_plus f g). Qed.

Lemma d_sub f g t df dg : is_derive f t df -> is_derive g t dg -> is_derive (fun s => f s - g s) t (df - dg).
Proof. intros; now apply (is_derive_minus f g). Qed.

Lemma d_neg f t df : is_derive f t df -> is_derive (fun s => - f s) t (- df).
Proof. intros; now apply (is_derive_opp f). Qed.

Lemma d_mul f g t df dg :
  is_derive f t df -> is_derive g t dg -> is_derive (fun s => f s * g s) t (df * g t + f t * dg).
Proof. intros F G; apply (is_derive_mult f g); auto; intros; apply Rmult_comm. Qed.

Lemma d_div f g t df dg : g t <> 0 ->
  is_derive f t df -> is_derive g t dg -> is_derive (fun s => f s / g s) t ((df - f t / g t * dg) / g t).
Proof.
  intros N F G. replace ((df - f t / g t * dg) / g t) with ((df * g t - f t * dg) / g t ^ 2) by (now field).
  now apply is_derive_div.
Qed.

(* a divisor that does not move: what is divided may be a sum over any axis *)
Lemma d_scaled f c t df : is_derive f t df -> is_derive (fun s => f s / c) t (df / c).
Proof.
  intros F. apply (is_derive_ext (fun s => f s * / c)); [reflexivity|].
  replace (df / c) with (df * / c + f t * 0) by (unfold Rdiv; ring).
  apply (d_mul f (fun _ => / c)); [exact F | apply d_const].
Qed.

Lemma d_inv f t df : f t <> 0 -> is_derive f t df -> is_derive (fun s => / f s) t (- df / f t ^ 2).
Proof. intros; now apply is_derive_inv. Qed.

Lemma d_pow f k t df : is_derive f t df -> is_derive (fun s => f s ^ k) t (INR k * f t ^ pred k * df).
Proof.
  intros F. replace (INR k * f t ^ pred k * df) with (INR k * df * f t ^ pred k) by ring.
  now apply is_derive_pow.
Qed.

Lemma d_sqrt f t df : 0 < f t -> is_derive f t df -> is_derive (fun s => sqrt (f s)) t (df / (2 * sqrt (f t))).
Proof. intros; now apply is_derive_sqrt. Qed.

Lemma d_rsqrt f t df : 0 < f t ->
  is_derive f t df -> is_derive (fun s => rsqrt (f s)) t (- (1 / 2) * rsqrt (f t) ^ 3 * df).
Proof.
  intros P F. unfold rsqrt. assert (0 < sqrt (f t)) by now apply sqrt_lt_R0.
  replace (- (1 / 2) * (/ sqrt (f t)) ^ 3 * df) with (- (df / (2 * sqrt (f t))) / sqrt (f t) ^ 2) by (field; lra).
  apply (is_derive_inv (fun s => sqrt (f s)) t (df / (2 * sqrt (f t)))); [now apply is_derive_sqrt | lra].
Qed.

Lemma d_eq (f : R -> R) (t d e : R) : is_derive f t d -> d = e -> is_derive f t e.
Proof. now intros H <-. Qed.

(* --- the normal form of a linear functional of a polynomial in vectors ---------------------------------- *)
Record linear {I : Type} (L : (I -> R) -> R) : Prop := {
  l_ext : forall f g, (forall i, f i = g i) -> L f = L g;
  l_add : forall f g, L (fun i => f i + g i) = L f + L g;
  l_mul : forall c f, L (fun i => c * f i) = c * L f }.

(* Sums over several axes, as functionals of functions of one index. *)
Definition over1 n (f : nat -> R) := sum n f.
Definition over2 n m (f : nat * nat -> R) := sum n (fun i => over1 m (fun j => f (i, j))).
Definition over3 n m k (f : nat * (nat * nat) -> R) := sum n (fun i => over2 m k (fun p => f (i, p))).
Definition over4 n m k l (f : nat * (nat * (nat * nat)) -> R) := sum n (fun i => over3 m k l (fun p => f (i, p))).

Lemma linear1 n : linear (over1 n).
Proof. split; unfold over1; [apply sum_ext | apply sum_add | apply sum_mul]. Qed.

Lemma linear_pair {J} n (M : (J -> R) -> R) : linear M -> linear (fun f => sum n (fun i => M (fun j => f (i, j)))).
Proof.
  intros B; split; intros.
  - apply sum_ext; intro; apply B; auto.
  - rewrite <- sum_add. apply sum_ext; intro; apply (l_add M B).
  - rewrite <- sum_mul. apply sum_ext; intro; apply (l_mul M B).
Qed.
Lemma linear2 n m : linear (over2 n m).
Proof. apply (linear_pair n (over1 m)), linear1. Qed.
Lemma linear3 n m k : linear (over3 n m k).
Proof. apply (linear_pair n (over2 m k)), linear2. Qed.
Lemma linear4 n m k l : linear (over4 n m k l).
Proof. apply (linear_pair n (over3 m k l)), linear3. Qed.

Section Normal.
Context {I : Type}.
Notation vectors := (list (I -> R)).

(* A body is a polynomial in vectors (Vec k is the k-th of a list); its constants are any reals. *)
Inductive body := Const (c : R) | Vec (k : nat) | Add (a b : body) | Sub (a b : body) | Mul (a b : body)
  | Opp (a : body) | Pow (a : body) (k : nat).

Fixpoint value (vs : vectors) (e : body) (i : I) : R :=
  match e with
  | Const c => c
  | Vec k => nth k vs (fun _ => 0) i
  | Add a b => value vs a i + value vs b i
  | Sub a b => value vs a i - value vs b i
  | Mul a b => value vs a i * value vs b i
  | Opp a => - value vs a i
  | Pow a k => value vs a i ^ k
  end.

(* Exponents, one a vector; a polynomial is a list of coefficient and exponents. *)
Definition poly := list (R * list nat).

Fixpoint entry (vs : vectors) (m : list nat) (i : I) : R :=
  match m, vs with
  | O :: m, _ :: vs => entry vs m i
  | p :: m, v :: vs => v i ^ p * entry vs m i
  | _, _ => 1
  end.

Fixpoint insert (c : R) (m : list nat) (p : poly) : poly :=
  match p with
  | [] => [(c, m)]
  | (d, m') :: p => if list_eq_dec Nat.eq_dec m m' then (d + c, m') :: p else (d, m') :: insert c m p
  end.
Fixpoint plus_poly (p q : poly) : poly :=
  match p with [] => q | (c, m) :: p => insert c m (plus_poly p q) end.

(* Which vectors are bits: w·w = w, so that their exponents are 0 or 1. *)
Fixpoint times (bits : list bool) (m m' : list nat) : list nat :=
  match m, m' with
  | a :: m, b :: m' =>
      (if hd false bits then match (a + b)%nat with O => O | S _ => 1%nat end else (a + b)%nat)
      :: times (tl bits) m m'
  | [], m' => m'
  | m, [] => m
  end.
Fixpoint scale bits (c : R) (m : list nat) (q : poly) : poly :=
  match q with [] => [] | (d, m') :: q => (c * d, times bits m m') :: scale bits c m q end.
Fixpoint mul_poly bits (p q : poly) : poly :=
  match p with [] => [] | (c, m) :: p => plus_poly (scale bits c m q) (mul_poly bits p q) end.

Fixpoint unit (k len : nat) : list nat :=
  match len with O => [] | S len => match k with O => 1%nat :: repeat O len | S k => O :: unit k len end end.

Fixpoint normal bits (len : nat) (e : body) : poly :=
  match e with
  | Const c => [(c, repeat O len)]
  | Vec k => if (k <? len)%nat then [(1, unit k len)] else []
  | Add a b => plus_poly (normal bits len a) (normal bits len b)
  | Sub a b => plus_poly (normal bits len a) (scale bits (-1) (repeat O len) (normal bits len b))
  | Mul a b => mul_poly bits (normal bits len a) (normal bits len b)
  | Opp a => scale bits (-1) (repeat O len) (normal bits len a)
  | Pow a k => Nat.iter k (mul_poly bits (normal bits len a)) [(1, repeat O len)]
  end.

Fixpoint at_index vs (p : poly) i :=
  match p with [] => 0 | (c, m) :: p => c * entry vs m i + at_index vs p i end.
Definition power_sum (L : (I -> R) -> R) vs (m : list nat) : R := L (entry vs m).
Fixpoint total (L : (I -> R) -> R) vs (p : poly) :=
  match p with [] => 0 | (c, m) :: p => c * power_sum L vs m + total L vs p end.

Definition is_bit (v : I -> R) := forall i, v i * v i = v i.
Fixpoint are_bits (bits : list bool) (vs : vectors) : Prop :=
  match bits, vs with b :: bits, v :: vs => (if b then is_bit v else True) /\ are_bits bits vs | _, _ => True end.

Lemma entry_step vs v p m i : entry (v :: vs) (p :: m) i = v i ^ p * entry vs m i.
Proof. destruct p; simpl; ring. Qed.
Lemma entry_nil vs i : entry vs [] i = 1.
Proof. now destruct vs. Qed.
Lemma times_nil bits m : times bits m [] = m.
Proof. now destruct m. Qed.
Lemma entry_empty m i : entry [] m i = 1.
Proof. now destruct m as [|[|?] ?]. Qed.

Lemma bit_pow (v : I -> R) p i : is_bit v -> v i ^ S p = v i.
Proof. intros B; induction p; [simpl; ring|]. change (v i * v i ^ S p = v i). now rewrite IHp. Qed.

Lemma entry_times bits vs m m' i : are_bits bits vs -> entry vs (times bits m m') i = entry vs m i * entry vs m' i.
Proof.
  revert bits m m'; induction vs as [|v vs IH]; intros bits m m' B; [rewrite !entry_empty; ring|].
  destruct m as [|a m], m' as [|b m']; rewrite ?times_nil, ?entry_nil; [ring|simpl; ring|ring|].
  assert (B' : are_bits (tl bits) vs) by (destruct bits; [now destruct vs | apply B]).
  cbn [times]. rewrite !entry_step, (IH _ _ _ B').
  enough (E : v i ^ (if hd false bits then match (a + b)%nat with O => O | S _ => 1%nat end else (a + b)%nat)
              = v i ^ a * v i ^ b) by (rewrite E; ring).
  rewrite <- pow_add. destruct bits as [|[|] bits]; try reflexivity. cbn [hd].
  destruct (a + b)%nat; [easy|]. now rewrite !(bit_pow v) by apply B.
Qed.

Lemma entry_zeros vs k i : entry vs (repeat O k) i = 1.
Proof. revert vs; induction k; intros [|v vs]; simpl; auto. Qed.

Lemma entry_unit vs k i : (k < length vs)%nat -> entry vs (unit k (length vs)) i = nth k vs (fun _ => 0) i.
Proof.
  revert k; induction vs as [|v vs IH]; intros k L; simpl in L; [lia|].
  destruct k; cbn [length unit nth]; rewrite entry_step.
  - rewrite entry_zeros; ring.
  - rewrite IH by lia; ring.
Qed.

Lemma at_insert vs c m p i : at_index vs (insert c m p) i = c * entry vs m i + at_index vs p i.
Proof.
  induction p as [|[d m'] p IH]; simpl; [ring|].
  destruct (list_eq_dec _ m m') as [->|_]; simpl; [ring|]. rewrite IH; ring.
Qed.
Lemma at_plus vs p q i : at_index vs (plus_poly p q) i = at_index vs p i + at_index vs q i.
Proof. induction p as [|[c m] p IH]; simpl; [ring|]. rewrite at_insert, IH; ring. Qed.

Lemma at_scale bits vs c m q i :
  are_bits bits vs -> at_index vs (scale bits c m q) i = c * entry vs m i * at_index vs q i.
Proof. intros B; induction q as [|[d m'] q IH]; simpl; [ring|]. rewrite IH, entry_times by easy; ring. Qed.

Lemma at_mul bits vs p q i :
  are_bits bits vs -> at_index vs (mul_poly bits p q) i = at_index vs p i * at_index vs q i.
Proof.
  intros B; induction p as [|[c m] p IH]; simpl; [ring|]. rewrite at_plus, at_scale, IH by easy; ring.
Qed.

Lemma normal_sound bits vs e i : are_bits bits vs -> at_index vs (normal bits (length vs) e) i = value vs e i.
Proof.
  intros B; induction e; cbn [normal value].
  - simpl. rewrite entry_zeros; ring.
  - destruct (Nat.ltb_spec k (length vs)) as [L|L]; simpl.
    + rewrite entry_unit by assumption; ring.
    + now rewrite nth_overflow.
  - now rewrite at_plus, IHe1, IHe2.
  - rewrite at_plus, at_scale, entry_zeros, IHe1, IHe2 by easy; ring.
  - now rewrite at_mul, IHe1, IHe2.
  - rewrite at_scale, entry_zeros, IHe by easy; ring.
  - induction k; simpl; [rewrite entry_zeros; ring|]. now rewrite at_mul, IHe, IHk.
Qed.

Lemma total_sound L vs p : linear L -> L (at_index vs p) = total L vs p.
Proof.
  intros A. induction p as [|[c m] p IH]; simpl.
  - rewrite (l_ext L A _ (fun _ => 0 * 0)) by (intro; ring). rewrite (l_mul L A); ring.
  - rewrite <- IH. unfold power_sum. rewrite <- (l_mul L A), <- (l_add L A). now apply A.
Qed.

Theorem normal_form L bits vs e :
  linear L -> are_bits bits vs -> L (value vs e) = total L vs (normal bits (length vs) e).
Proof. intros A B. rewrite <- total_sound by assumption. apply A; intros; now rewrite normal_sound. Qed.

Lemma power_sum_zeros L vs m : linear L -> forallb (Nat.eqb 0) m = true -> power_sum L vs m = L (fun _ => 1).
Proof.
  intros A Z. apply A; intros i. revert vs Z; induction m as [|[|p] m IH]; intros vs Z; simpl in Z;
  [apply entry_nil | | discriminate]. destruct vs; [apply entry_empty|]. now apply IH.
Qed.
End Normal.

Lemma size1 n : over1 n (fun _ => 1) = INR n.
Proof. unfold over1. rewrite sum_const; ring. Qed.
Lemma size2 n m : over2 n m (fun _ => 1) = INR n * INR m.
Proof. unfold over2, over1. rewrite !sum_const; ring. Qed.
Lemma size3 n m k : over3 n m k (fun _ => 1) = INR n * INR m * INR k.
Proof. unfold over3, over2, over1. rewrite !sum_const; ring. Qed.
Lemma size4 n m k l : over4 n m k l (fun _ => 1) = INR n * INR m * INR k * INR l.
Proof. unfold over4, over3, over2, over1. rewrite !sum_const; ring. Qed.

Lemma bit_is_bit {I} (f : I -> bool) : is_bit (fun i => bit (f i)).
Proof. intros i; destruct (f i); simpl; ring. Qed.

(* E[x²] − E[x]² ≥ 0, however x is indexed. *)
Definition positive {I : Type} (L : (I -> R) -> R) := forall f, (forall i, 0 <= f i) -> 0 <= L f.
Lemma positive1 n : positive (over1 n).
Proof. intros f P; now apply sum_nonneg. Qed.
Lemma positive2 n m : positive (over2 n m).
Proof. intros f P; apply sum_nonneg; intro; apply positive1; auto. Qed.
Lemma positive3 n m k : positive (over3 n m k).
Proof. intros f P; apply sum_nonneg; intro; apply positive2; auto. Qed.
Lemma positive4 n m k l : positive (over4 n m k l).
Proof. intros f P; apply sum_nonneg; intro; apply positive3; auto. Qed.

Lemma variance_nonneg {I} (L : (I -> R) -> R) f q n : linear L -> positive L -> L (fun _ => 1) = n -> 0 < n ->
  (forall i, q i = f i * f i) -> 0 <= L q / n - L f / n * (L f / n).
Proof.
  intros A P S N E. rewrite (l_ext L A q (fun i => f i * f i)) by easy. set (m := L f / n).
  assert (Q := P (fun i => (f i - m) ^ 2) (fun i => pow2_ge_0 _)).
  rewrite (l_ext L A _ (fun i => (f i * f i + (-2 * m) * f i) + m * m * 1)) in Q by (intro; ring).
  rewrite (l_add L A), (l_add L A), (l_mul L A (-2 * m)), (l_mul L A (m * m)), S in Q.
  replace (L f) with (m * n) in Q by (unfold m; field; lra).
  apply (Rmult_le_reg_r n); [easy|].
  replace ((L (fun i => f i * f i) / n - m * m) * n) with (L (fun i => f i * f i) - m * m * n) by (field; lra). lra.
Qed.

(* --- tactics: positivity -------------------------------------------------------------------------------- *)
Ltac nonneg :=
  cbv beta; lazymatch goal with
  | |- 0 <= sum _ _ => apply sum_nonneg; intro; nonneg
  | |- 0 <= _ + _ => apply Rplus_le_le_0_compat; nonneg
  | |- 0 <= _ / _ => apply Rle_mult_inv_pos; [nonneg | pos]
  | |- 0 <= _ ^ 2 => apply pow2_ge_0
  | |- 0 <= ?a * ?a => apply Rle_0_sqr
  | |- 0 <= _ * _ => apply Rmult_le_pos; nonneg
  | |- 0 <= bit ?b => destruct b; unfold bit; lra
  | |- 0 <= 1 - bit ?b => destruct b; unfold bit; lra
  | |- 0 <= sqrt _ => apply sqrt_pos
  | |- 0 <= _ - _ => variance
  | _ => lra || (apply Rlt_le; pos)
  end
with pos :=
  cbv beta; lazymatch goal with
  | |- 0 < INR _ => assumption || (apply lt_0_INR; lia)
  | |- 0 < sum _ _ => apply sum_pos; [assumption || lia | intro; pos]
  | |- 0 < _ + _ => (apply Rplus_le_lt_0_compat; [nonneg | pos]) || (apply Rplus_lt_le_0_compat; [pos | nonneg])
  | |- 0 < _ * _ => apply Rmult_lt_0_compat; pos
  | |- 0 < _ / _ => apply Rdiv_lt_0_compat; pos
  | |- 0 < / _ => apply Rinv_0_lt_compat; pos
  | |- 0 < _ ^ _ => apply pow_lt; pos
  | |- 0 < sqrt _ => apply sqrt_lt_R0; pos
  | |- 0 < rsqrt _ => apply Rinv_0_lt_compat, sqrt_lt_R0; pos
  | _ => solve [eauto | lra]
  end
(* 0 <= Σ f·f / n − (Σ f / n)², sums over one to four axes *)
with variance :=
  lazymatch goal with
  | |- 0 <= ?a - _ => lazymatch a with
    | context [sum ?n ?f] =>
        let L := functional n f in let b := summand n f in
        let v := root_of b in
        let A := linear_of L in let P := positive_of L in let S := size_of L in
        lazymatch type of S with _ = ?size =>
          eapply Rle_trans; [apply (variance_nonneg L v b size A P S); [pos | intro; ring] |];
          cbv [over1 over2 over3 over4]; cbn [fst snd]; apply Req_le; field; nonzero
        end
    end
  end
with nonzero := repeat split; auto; try lra;
  repeat match goal with |- ?q <> 0 => progress ring_simplify q end; auto; try lra;
  repeat (apply pow_nonzero || apply Rmult_integral_contrapositive_currified); auto; try lra;
  try match goal with H : ?d <> 0 |- ?q <> 0 =>
    let Z := fresh in intro Z; apply H; transitivity q; [ring | exact Z] end
(* sum n f as a functional of a body: f may be sums over further axes *)
with functional n f :=
  lazymatch f with
  | fun i => sum ?m (@?g i) => lazymatch g with
    | fun i j => sum ?k (@?h i j) => lazymatch h with
      | fun i j p => sum ?l _ => constr:(over4 n m k l)
      | _ => constr:(over3 n m k)
      end
    | _ => constr:(over2 n m)
    end
  | _ => constr:(over1 n)
  end
with summand n f :=
  let b := lazymatch f with
  | fun i => sum ?m (@?g i) => lazymatch g with
    | fun i j => sum ?k (@?h i j) => lazymatch h with
      | fun i j p => sum ?l (@?e i j p) => constr:(fun p => e (fst p) (fst (snd p)) (fst (snd (snd p))) (snd (snd (snd p))))
      | _ => constr:(fun p => h (fst p) (fst (snd p)) (snd (snd p)))
      end
    | _ => constr:(fun p => g (fst p) (snd p))
    end
  | _ => f
  end in eval cbv beta in b
with linear_of L := lazymatch L with
  | over1 ?n => constr:(linear1 n) | over2 ?n ?m => constr:(linear2 n m)
  | over3 ?n ?m ?k => constr:(linear3 n m k) | over4 ?n ?m ?k ?l => constr:(linear4 n m k l)
  end
with positive_of L := lazymatch L with
  | over1 ?n => constr:(positive1 n) | over2 ?n ?m => constr:(positive2 n m)
  | over3 ?n ?m ?k => constr:(positive3 n m k) | over4 ?n ?m ?k ?l => constr:(positive4 n m k l)
  end
with size_of L := lazymatch L with
  | over1 ?n => constr:(size1 n) | over2 ?n ?m => constr:(size2 n m)
  | over3 ?n ?m ?k => constr:(size3 n m k) | over4 ?n ?m ?k ?l => constr:(size4 n m k l)
  end
with root_of b := lazymatch b with
  | fun i => @?a i ^ 2 => a
  | fun i => @?a i * @?c i => a
  end.

Lemma pos_nonzero a : 0 < a -> a <> 0.
Proof. intros P; now apply Rgt_not_eq. Qed.

Ltac differs := first [apply pos_nonzero; pos | solve [auto] | solve [nonzero]].
Ltac defined :=
  repeat match goal with |- _ /\ _ => split | |- forall _, _ => intro end;
  first [exact I | solve [pos] | differs | cbv beta; lra | fail 1 "it was not shown to be defined"].

(* --- tactics: derivatives -------------------------------------------------------------------------------- *)
Ltac derive :=
  cbv beta;
  lazymatch goal with
  | |- is_derive (fun _ => ?c) _ _ => apply d_const
  | |- is_derive (fun s => sum ?n (@?f s)) _ _ => eapply (d_sum n f); let i := fresh "i" in intro i; derive
  | |- is_derive (fun s => @?f s + @?g s) _ _ => eapply (d_add f g); derive
  | |- is_derive (fun s => @?f s - @?g s) _ _ => eapply (d_sub f g); derive
  | |- is_derive (fun s => @?f s * @?g s) _ _ => eapply (d_mul f g); derive
  | |- is_derive (fun s => @?f s / @?g s) _ _ => lazymatch g with
    | fun _ => ?c => eapply (d_scaled f c); derive
    | _ => eapply (d_div f g); [differs | derive | derive]
    end
  | |- is_derive (fun s => / @?f s) _ _ => eapply (d_inv f); [differs | derive]
  | |- is_derive (fun s => - @?f s) _ _ => eapply (d_neg f); derive
  | |- is_derive (fun s => @?f s ^ ?k) _ _ => eapply (d_pow f k); derive
  | |- is_derive (fun s => rsqrt (@?f s)) _ _ => eapply (d_rsqrt f); [pos | derive]
  | |- is_derive (fun s => sqrt (@?f s)) _ _ => eapply (d_sqrt f); [pos | derive]
  | H : is_derive ?x ?t _ |- is_derive ?x ?t _ => exact H
  | H : is_derive (fun s => ?x s) ?t _ |- is_derive ?x ?t _ => exact H
  | H : forall i, is_derive (fun s => ?x s i) ?t _ |- is_derive (fun s => ?x s ?i) ?t _ => exact (H i)
  | H : forall i j, is_derive (fun s => ?x s i j) ?t _ |- is_derive (fun s => ?x s ?i ?j) ?t _ => exact (H i j)
  | H : forall i j k, is_derive (fun s => ?x s i j k) ?t _ |- is_derive (fun s => ?x s ?i ?j ?k) ?t _ =>
      exact (H i j k)
  | H : forall i j k l, is_derive (fun s => ?x s i j k l) ?t _ |- is_derive (fun s => ?x s ?i ?j ?k ?l) ?t _ =>
      exact (H i j k l)
  | |- _ => fail 1 "a derivative was not found"
  end.

(* --- tactics: an outer sum on both sides, equal term by term --------------------------------------------- *)
Lemma outer_add n f g a b : a = sum n f -> b = sum n g -> a + b = sum n (fun i => f i + g i).
Proof. intros -> ->; now rewrite sum_add. Qed.
Lemma outer_neg n f a : a = sum n f -> - a = sum n (fun i => - f i).
Proof. intros ->. rewrite (sum_ext n (fun i => - f i) (fun i => -1 * f i)) by (intro; ring). rewrite sum_mul; ring. Qed.
Lemma outer_sub n f g a b : a = sum n f -> b = sum n g -> a - b = sum n (fun i => f i - g i).
Proof. intros -> B. unfold Rminus. apply outer_add; [easy | now apply outer_neg]. Qed.
Lemma outer_right n f a b : b = sum n f -> a * b = sum n (fun i => a * f i).
Proof. intros ->; now rewrite sum_mul. Qed.
Lemma outer_left n f a b : a = sum n f -> a * b = sum n (fun i => f i * b).
Proof. intros ->. rewrite Rmult_comm, <- sum_mul. apply sum_ext; intro; ring. Qed.
Lemma outer_div n f a b : a = sum n f -> a / b = sum n (fun i => f i / b).
Proof. apply outer_left. Qed.
Lemma outer_zero n : 0 = sum n (fun _ => 0).
Proof. now rewrite sum_const, Rmult_0_r. Qed.
Lemma outer_exchange n m f g : (forall j, f j = sum n (g j)) -> sum m f = sum n (fun i => sum m (fun j => g j i)).
Proof. intros E. rewrite (sum_ext m f (fun j => sum n (g j))) by easy. apply sum_exchange. Qed.

(* a = sum n ?f: the sum over n pulled out of a *)
Ltac outer n :=
  cbv beta;
  lazymatch goal with
  | |- sum n _ = _ => reflexivity
  | |- sum _ _ = _ => eapply outer_exchange; let j := fresh "j" in intro j; outer n
  | |- _ + _ = _ => eapply outer_add; outer n
  | |- _ - _ = _ => eapply outer_sub; outer n
  | |- - _ = _ => eapply outer_neg; outer n
  | |- _ / _ = _ => eapply outer_div; outer n
  | |- _ * ?b = _ => lazymatch b with
    | context [sum n _] => eapply outer_right; outer n
    | _ => eapply outer_left; outer n
    end
  | |- 0 = _ => apply outer_zero
  end.
Ltac channel n :=
  etransitivity; [outer n | symmetry; etransitivity; [outer n | symmetry]];
  apply sum_ext; let c := fresh "c" in intro c; cbv beta.

(* --- tactics: identities ----------------------------------------------------------------------------------- *)
Lemma root_fact a : 0 < a -> sqrt a * sqrt a = a /\ sqrt a <> 0.
Proof. intros P; split; [apply sqrt_sqrt; lra|]. apply pos_nonzero, sqrt_lt_R0, P. Qed.

Definition said (P : Prop) := P.
Definition normalised (P : Prop) := P.

(* What roots and divisors are, said while their sums still show a sign. *)
Ltac facts :=
  repeat match goal with
  | |- context [sqrt ?a] =>
      lazymatch goal with K : said (0 < a) |- _ => fail | _ => idtac end;
      assert (said (0 < a)) by (unfold said; pos)
  end;
  repeat match goal with
  | |- context [_ / ?d] => divisor d
  | |- context [/ ?d] => divisor d
  end;
  repeat match goal with K : said (0 < ?a) |- _ => generalize (root_fact a K); clear K end;
  repeat match goal with K : said (?d <> 0) |- _ => unfold said in K; generalize K; clear K end
with divisor d :=
  lazymatch d with
  | INR _ => fail | sqrt _ => fail | IZR _ => fail
  | ?b ^ _ => divisor b
  | _ => lazymatch goal with K : said (d <> 0) |- _ => fail | _ => idtac end;
      assert (said (d <> 0)) by (unfold said; differs)
  end.

Ltac has_sum f := idtac; match f with context [sum _ _] => idtac end.
(* every sum gets a name, the innermost first *)
Ltac name_sums :=
  repeat match goal with
  | |- context [sum ?n ?f] =>
      let L := functional n f in let b := summand n f in
      assert_fails (has_sum b);
      let S := fresh "S" in let E := fresh "E" in
      remember (sum n f) as S eqn:E; change (S = L b) in E
  end.

Ltac add vs v := lazymatch vs with
  | nil => constr:(cons v nil)
  | v :: _ => vs
  | ?u :: ?rest => let r := add rest v in constr:(u :: r)
  end.
Ltac inverse b := let v := constr:(fun i => / b i) in eval cbv beta in v.
Ltac leaves vs f :=
  lazymatch f with
  | fun _ => ?c => vs
  | fun i => @?a i + @?b i => let vs := leaves vs a in leaves vs b
  | fun i => @?a i - @?b i => let vs := leaves vs a in leaves vs b
  | fun i => @?a i * @?b i => let vs := leaves vs a in leaves vs b
  | fun i => @?a i / @?b i => let vs := leaves vs a in
      let v := inverse b in leaves vs v
  | fun i => / @?b i => add vs f
  | fun i => - @?a i => leaves vs a
  | fun i => @?a i ^ _ => leaves vs a
  | fun i => ?v i => add vs v
  | _ => add vs f
  end.
Ltac index v vs := lazymatch vs with
  | v :: _ => constr:(O)
  | _ :: ?rest => let k := index v rest in constr:(S k)
  end.
Ltac reify vs f :=
  lazymatch f with
  | fun _ => ?c => constr:(Const c)
  | fun i => @?a i + @?b i => let p := reify vs a in let q := reify vs b in constr:(Add p q)
  | fun i => @?a i - @?b i => let p := reify vs a in let q := reify vs b in constr:(Sub p q)
  | fun i => @?a i * @?b i => let p := reify vs a in let q := reify vs b in constr:(Mul p q)
  | fun i => @?a i / @?b i => let p := reify vs a in let v := inverse b in let q := reify vs v in constr:(Mul p q)
  | fun i => / @?b i => let k := index f vs in constr:(Vec k)
  | fun i => - @?a i => let p := reify vs a in constr:(Opp p)
  | fun i => @?a i ^ ?k => let p := reify vs a in constr:(Pow p k)
  | fun i => ?v i => let k := index v vs in constr:(Vec k)
  | ?v => let k := index v vs in constr:(Vec k)
  end.
Ltac bits_of vs := lazymatch vs with
  | nil => constr:(@nil bool)
  | (fun i => bit _) :: ?rest => let r := bits_of rest in constr:(true :: r)
  | _ :: ?rest => let r := bits_of rest in constr:(false :: r)
  end.
Ltac prove_bits := cbn [are_bits]; repeat split; apply bit_is_bit.

Ltac sums_over I :=
  let VS := fresh "VS" in
  pose (VS := @nil (I -> R));
  repeat match goal with
  | E : ?S = ?L ?f, VS := ?vs : list (I -> R) |- _ =>
      lazymatch type of f with I -> R => idtac end;
      let vs := leaves vs f in clear VS; pose (VS := vs); change (said (S = L f)) in E
  end;
  repeat match goal with
  | E : said (?S = ?L ?f), VS := ?vs : list (I -> R) |- _ =>
      lazymatch type of f with I -> R => idtac end;
      let e := reify vs f in let bits := bits_of vs in let A := linear_of L in
      let B := fresh "B" in
      assert (B : are_bits bits vs) by prove_bits;
      change (S = L (value vs e)) in E; rewrite (normal_form L bits vs e A B) in E; clear B;
      cbv [normal total plus_poly insert scale mul_poly times unit repeat length Nat.iter nat_rect hd tl
           Nat.ltb Nat.leb list_eq_dec list_rec list_rect Nat.eq_dec nat_rec Nat.add sumbool_rec sumbool_rect] in E;
      repeat match type of E with
      | context [power_sum L vs ?m] =>
          let Z := size_of L in rewrite (power_sum_zeros L vs m A eq_refl), Z in E
      end;
      let T := type of E in change (normalised T) in E
  end;
  try clear VS.

Ltac subst_sums := repeat match goal with E : normalised (?S = _) |- _ => unfold normalised in E; subst S end.

(* the numbers that Coq counts, as the numbers that it calculates with *)
Ltac numerals :=
  repeat match goal with
  | |- context [INR (S ?k)] =>
      let z := eval compute in (Z.of_nat (S k)) in replace (INR (S k)) with (IZR z) by (rewrite INR_IZR_INZ; reflexivity)
  end; cbn [pred INR].

(* the roots become variables, one for all radicands that are equal *)
Ltac roots :=
  repeat match goal with
  | |- context [sqrt ?a] =>
      let r := fresh "r" in let E := fresh "E" in
      remember (sqrt a) as r eqn:E;
      repeat match goal with
      | |- context [sqrt ?b] => replace (sqrt b) with r by (rewrite E; f_equal; solve [ring | field; nonzero])
      end;
      clear E
  end.

Ltac bits := repeat match goal with |- context [bit ?b] => lazymatch b with true => fail | false => fail | _ => destruct b end end;
  change (bit true) with 1; change (bit false) with 0.

(* r·r = a, solved for a term of a that is linear in it: ε where there is one, else Σ x² *)
Ltac solve_for e slope r a E :=
  let q := fresh "q" in let D := fresh "D" in
  let F := eval pattern e in a in
  lazymatch F with
  | ?F e => let z := eval cbv beta in (F 0) in
      assert (D : e = (r * r - z) / slope) by (rewrite E; field; nonzero);
      clear E; rewrite D; clear D
  end.
Ltac eliminate := match goal with
  | E : ?r * ?r = ?a, N : ?r <> 0 |- _ => first
    [ match a with context [?e] => match goal with
        | _ : 0 < e |- _ => solve_for e 1 r a E
        | _ : forall i, 0 < ?eps i |- _ => match e with eps _ => solve_for e 1 r a E end
        end
      end
    | match a with context [power_sum ?L ?vs ?m] =>
        let e := constr:(power_sum L vs m) in let S := size_of L in
        first [solve_for e 1 r a E
          | lazymatch type of S with _ = ?size => solve_for e (/ size) r a E end]
      end ]
  end.
Ltac close :=
  intros; repeat match goal with H : _ /\ _ |- _ => destruct H end;
  first [ring | solve [field; nonzero] | solve [repeat (eliminate; try solve [field; nonzero])]].

Ltac identity :=
  cbv beta; numerals; unfold rsqrt, select; facts; name_sums;
  sums_over nat; sums_over (nat * nat)%type; sums_over (nat * (nat * nat))%type;
  sums_over (nat * (nat * (nat * nat)))%type;
  subst_sums; numerals; repeat match goal with |- _ <> 0 -> _ => intro end; roots; bits; close.
Ltac same := intros; first [reflexivity | identity].
Ltac start :=
  intros;
  repeat match goal with
  | H : (0 < ?n)%nat |- _ => lazymatch goal with K : 0 < INR n |- _ => fail | _ => idtac end;
      assert (0 < INR n) by (now apply lt_0_INR); assert (INR n <> 0) by (now apply Rgt_not_eq)
  end;
  cbv beta iota zeta delta [fst snd select].
